//! Regroups batches of any size into batches of equal size.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::Fuse;
use futures::{Stream, StreamExt};

/// The maximum memory in bytes of a batch that is passed on without a copy. A larger one is copied even if it has the
/// right number of rows, because its buffers may hold more than its rows.
const MAX_UNCOPIED_BYTES: usize = 1 << 20;
/// The maximum number of bytes of rows that wait for a full batch. Beyond it, the waiting rows become a smaller batch,
/// which happens with very wide rows.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// A stream of the same rows in batches of exactly `rows` rows; only the last may be smaller, and none is empty.
/// Batches are also smaller where the rows that wait exceed 8 MiB.
///
/// The layout of rows in files decides the batches of a scan. A client that counts batches, or bytes of encoded
/// batches, would learn about hidden rows in between; batches of exactly `rows` rows depend on the visible rows alone.
/// An error drops the rows that wait for a full batch.
pub struct EvenBatches<S> {
    input: Fuse<S>,
    schema: SchemaRef,
    rows: usize,
    waiting: VecDeque<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    has_ended: bool,
}

impl<S: Stream + Unpin> EvenBatches<S> {
    /// Regroups `input`, whose batches have the columns of `schema`, into batches of `rows` rows, at least 1.
    pub fn new(input: S, schema: SchemaRef, rows: usize) -> Self {
        Self {
            input: input.fuse(),
            schema,
            rows: rows.max(1),
            waiting: VecDeque::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            has_ended: false,
        }
    }

    /// Takes the first `rows` of the waiting rows as one batch.
    fn take(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0
            && let Some(first) = self.waiting.pop_front()
        {
            let count = first.num_rows();
            if count > missing {
                self.waiting
                    .push_front(first.slice(missing, count - missing));
                parts.push(first.slice(0, missing));
                break;
            }
            missing -= count;
            parts.push(first);
        }
        self.waiting_rows = self.waiting_rows.saturating_sub(rows);
        self.waiting_bytes = self.waiting.iter().map(row_bytes).sum();
        let bytes = |batch: &RecordBatch| {
            let columns = batch.columns().iter();
            columns
                .map(|column| column.get_buffer_memory_size())
                .sum::<usize>()
        };
        match parts.as_slice() {
            [whole] if bytes(whole) <= MAX_UNCOPIED_BYTES => Ok(whole.clone()),
            // `concat_batches` does not copy a single array, so add an empty one.
            [whole] => concat_batches(&self.schema, [whole, &whole.slice(0, 0)]),
            parts => concat_batches(&self.schema, parts),
        }
    }
}

/// Returns the bytes of a batch's rows, without other contents of its buffers.
fn row_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter().map(|column| {
        let bytes = column.to_data().get_slice_memory_size();
        bytes.unwrap_or_else(|_| column.get_buffer_memory_size())
    });
    columns.sum()
}

impl<S, E> Stream for EvenBatches<S>
where
    S: Stream<Item = Result<RecordBatch, E>> + Unpin,
    E: From<ArrowError>,
{
    type Item = Result<RecordBatch, E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let is_full = this.waiting_rows >= this.rows || this.waiting_bytes > MAX_WAITING_BYTES;
            if is_full || this.has_ended && this.waiting_rows > 0 {
                let rows = this.rows.min(this.waiting_rows);
                return Poll::Ready(Some(this.take(rows).map_err(E::from)));
            }
            if this.has_ended {
                return Poll::Ready(None);
            }
            match ready!(this.input.poll_next_unpin(context)) {
                Some(Ok(batch)) => {
                    this.waiting_rows += batch.num_rows();
                    this.waiting_bytes += row_bytes(&batch);
                    if batch.num_rows() > 0 {
                        this.waiting.push_back(batch);
                    }
                }
                Some(Err(error)) => {
                    this.has_ended = true;
                    this.waiting.clear();
                    this.waiting_rows = 0;
                    this.waiting_bytes = 0;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.has_ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use futures::{FutureExt, TryStreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    fn batches(sizes: &[usize]) -> Vec<RecordBatch> {
        let mut next = 0;
        let batches = sizes.iter().map(|&size| {
            let numbers: Int64Array = (next..next + size as i64).collect();
            next += size as i64;
            RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
        });
        batches.collect()
    }

    proptest! {
        #[test]
        fn even_batches_of_any_input_have_equal_sizes_and_the_same_rows(
            sizes in prop::collection::vec(0..20_usize, 1..12),
            rows in 1..25_usize,
        ) {
            let input = batches(&sizes);
            let schema = input[0].schema();
            let input = stream::iter(input.into_iter().map(Ok::<_, ArrowError>));
            let even: Vec<RecordBatch> = EvenBatches::new(input, schema, rows)
                .try_collect()
                .now_or_never()
                .unwrap()
                .unwrap();
            let total: usize = sizes.iter().sum();
            let got: Vec<usize> = even.iter().map(RecordBatch::num_rows).collect();
            let mut expected = vec![rows; total / rows];
            expected.extend((!total.is_multiple_of(rows)).then_some(total % rows));
            prop_assert_eq!(got, expected);
            let numbers = even.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            prop_assert_eq!(numbers.collect::<Vec<_>>(), (0..total as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn even_batches_after_an_error_drop_waiting_rows() {
        let input = batches(&[5, 2]);
        let schema = input[0].schema();
        let failed = Err(ArrowError::ComputeError("1 / 0".to_owned()));
        let input = stream::iter(input.into_iter().map(Ok).chain([failed]));
        let items: Vec<_> = EvenBatches::new(input, schema, 5)
            .collect()
            .now_or_never()
            .unwrap();
        let rows: Vec<_> = items
            .iter()
            .map(|item| item.as_ref().ok().map(RecordBatch::num_rows))
            .collect();
        assert_eq!(rows, [Some(5), None]);
    }
}
