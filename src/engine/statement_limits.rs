//! The limits of one statement, which its errors name.

/// The maximum length of SQL text, in bytes; longer text is a program's mistake or an attack.
pub const MAX_SQL_BYTES: usize = 1 << 20;
/// The maximum number of operators. Each may nest the rest of its expression one level deeper, and recursive visitors
/// descend all levels: without a limit, a long sum overflows a thread's stack, which aborts the process.
pub const MAX_OPERATORS: usize = 2_000;
/// The maximum number of parameters of a statement, and the maximum number of a parameter.
pub(super) const MAX_PARAMETERS: usize = 10_000;
/// The maximum number of tables that a statement names. The tables of a common table expression count wherever it is
/// named: a chain of twenty expressions, each naming the previous one twice, makes a million.
pub(super) const MAX_TABLES: usize = 500;
/// The maximum number of grouping sets of one `GROUP BY`. Each input row is aggregated once for each of them.
pub(super) const MAX_GROUPING_SETS: usize = 512;

/// The stack size in bytes that threads need for statements within the limits of depth; only the part that is used takes memory.
pub const THREAD_STACK_BYTES: usize = 64 << 20;
