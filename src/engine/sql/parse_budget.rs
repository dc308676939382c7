//! A SQL dialect with a limit on backtracking.
//!
//! Where a word such as `CASE` may begin an expression or be a name, the parser tries the one and, if that fails, the
//! other, and does so again at each level of nesting. It would reach an error that is thirty levels deep a billion
//! times.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The number of attempts to parse an expression that each token allows. In valid SQL a token needs two at most.
const ATTEMPTS_PER_TOKEN: usize = 4;
/// The number of attempts that every text is allowed in addition.
const BASE_ATTEMPTS: usize = 10_000;

/// [`GenericDialect`] with the precedence of operators of Postgres, which fails when its budget of attempts is used up.
#[derive(Debug)]
pub(in crate::engine) struct ParseBudget {
    /// The number of attempts that are left.
    remaining: Cell<usize>,
    /// An address on the stack of the thread that parses, where it began.
    stack_base: usize,
}

/// The maximum stack that parsing takes, in bytes: a fourth of what threads have, since the same expression is visited by
/// recursion when it is planned and dropped.
const MAX_STACK_BYTES: usize = crate::engine::statement_limits::THREAD_STACK_BYTES / 4;

/// Returns an address on the thread's stack.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

impl ParseBudget {
    /// Returns the budget for a text of `tokens` tokens.
    pub fn new(tokens: usize) -> Self {
        Self {
            remaining: Cell::new(ATTEMPTS_PER_TOKEN * tokens + BASE_ATTEMPTS),
            stack_base: stack_address(),
        }
    }

    /// Returns a budget without the additional attempts, which valid SQL does not need.
    pub fn new_strict(tokens: usize) -> Self {
        Self {
            remaining: Cell::new(ATTEMPTS_PER_TOKEN * tokens + 1),
            stack_base: stack_address(),
        }
    }

    /// Whether the budget is used up.
    pub fn is_exhausted(&self) -> bool {
        self.remaining.get() == 0
    }
}

/// Delegates to the methods of [`GenericDialect`] that differ from the defaults of [`Dialect`]. Compare the list with
/// the crate after each update.
macro_rules! as_generic {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            GenericDialect.$name()
        })*
    };
}

impl Dialect for ParseBudget {
    fn dialect(&self) -> TypeId {
        GenericDialect.dialect()
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let left = self.remaining.get().saturating_sub(1);
        self.remaining.set(left);
        let is_deep = self.stack_base.abs_diff(stack_address()) > MAX_STACK_BYTES;
        (left == 0 || is_deep).then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        PostgreSqlDialect {}.prec_value(precedence)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let is_other_operator = matches!(
            parser.peek_token_ref().token,
            Token::StringConcat
                | Token::ShiftLeft
                | Token::ShiftRight
                | Token::Sharp
                | Token::Overlap
                | Token::Tilde
                | Token::TildeAsterisk
                | Token::ExclamationMarkTilde
                | Token::ExclamationMarkTildeAsterisk
                | Token::DoubleTilde
                | Token::DoubleTildeAsterisk
                | Token::ExclamationMarkDoubleTilde
                | Token::ExclamationMarkDoubleTildeAsterisk
        );
        is_other_operator.then(|| Ok(self.prec_value(Precedence::PgOther)))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        _: u8,
    ) -> Option<Result<Expr, ParserError>> {
        // The parser takes all that follows for the right side, also `AND` and `OR`.
        let is_negated = if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM])
        {
            false
        } else if parser.parse_keywords(&[
            Keyword::IS,
            Keyword::NOT,
            Keyword::DISTINCT,
            Keyword::FROM,
        ]) {
            true
        } else {
            return None;
        };
        let right = parser.parse_subexpr(self.prec_value(Precedence::Is));
        let left = Box::new(left.clone());
        Some(right.map(|right| match is_negated {
            true => Expr::IsNotDistinctFrom(left, Box::new(right)),
            false => Expr::IsDistinctFrom(left, Box::new(right)),
        }))
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        GenericDialect.is_identifier_part(character)
    }

    as_generic! {
        supports_unicode_string_literal
        supports_partition_by_after_order_by
        supports_array_join_syntax
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_connect_by
        supports_match_recognize
        supports_pipe_operator
        supports_start_transaction_modifier
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        supports_window_clause_named_window_reference
        supports_parenthesized_set_variables
        supports_select_wildcard_except
        support_map_literal_syntax
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_create_view_comment_syntax
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_limit_comma
        supports_update_order_by
        supports_from_first_select
        supports_projection_trailing_commas
        supports_asc_desc_in_column_definition
        supports_try_convert
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_named_fn_args_with_assignment_operator
        supports_struct_literal
        supports_empty_projections
        supports_nested_comments
        supports_multiline_comment_hints
        supports_user_host_grantee
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_match_against
        supports_set_names
        supports_comma_separated_set_assignments
        supports_filter_during_aggregation
        supports_select_wildcard_exclude
        supports_data_type_signed_suffix
        supports_interval_options
        supports_quote_delimited_string
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
        supports_comment_optimizer_hint
        supports_constraint_keyword_without_name
        supports_key_column_option
        supports_comma_separated_trim
        supports_cte_without_as
        supports_select_item_multi_column_alias
        supports_xml_expressions
    }
}
