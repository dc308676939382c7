//! Generates SQL. Most statements can be planned, so that execution is tested, too.

use fastrand::Rng;

use crate::words::{Kind, Table, table, word};

/// A function of the engine: its name, and the kinds of the arguments of each signature.
pub type Function = (String, Vec<Vec<Kind>>);

/// Numbers of nested or repeated parts.
const MANY: [usize; 8] = [10, 50, 90, 100, 101, 300, 500, 3_000];
/// The kinds of arguments of aggregates, by frequency.
const GATHERED: [Kind; 5] = [
    Kind::Number,
    Kind::Number,
    Kind::Text,
    Kind::Instant,
    Kind::List,
];

/// A generator of statements.
pub struct Author<'a> {
    random: &'a mut Rng,
    functions: &'a [Function],
    /// The aliases and tables that are in scope.
    scope: Vec<(String, Table)>,
    names: usize,
}

impl<'a> Author<'a> {
    /// Creates a generator that uses these functions.
    pub fn new(random: &'a mut Rng, functions: &'a [Function]) -> Self {
        Self {
            random,
            functions,
            scope: Vec::new(),
            names: 0,
        }
    }

    /// Generates a statement.
    pub fn statement(&mut self) -> String {
        let depth = self.random.usize(1..4);
        match self.random.u8(..100) {
            0..=7 => self.word("statements").to_owned(),
            8..=14 => format!("EXPLAIN {}", self.query(depth)),
            15..=16 => format!("{}; {}", self.query(1), self.query(1)),
            17..=34 => {
                let kind = self.kind();
                format!("SELECT {} AS x", self.expression(kind, depth + 1))
            }
            35..=44 => self.with(depth),
            45..=49 => self.deep(),
            _ => self.query(depth),
        }
    }

    fn word(&mut self, section: &str) -> &'static str {
        word(self.random, section)
    }

    fn kind(&mut self) -> Kind {
        Kind::ALL[self.random.usize(..Kind::ALL.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }

    fn name(&mut self, beginning: &str) -> String {
        self.names += 1;
        format!("{beginning}{}", self.names)
    }

    fn list(&mut self, count: usize, mut item: impl FnMut(&mut Self) -> String) -> String {
        let items: Vec<String> = (0..count).map(|_| item(self)).collect();
        items.join(", ")
    }

    /// Generates a deeply nested or long statement.
    fn deep(&mut self) -> String {
        let many = MANY[self.random.usize(..MANY.len())];
        let mut parts = self.word("deep").split('@');
        let mut part = || parts.next().unwrap();
        let (before, middle, after) = (part(), part(), part());
        let text = format!("{}{middle}{}", before.repeat(many), after.repeat(many));
        match self.random.u8(..6) {
            0 => format!("SELECT {text}{}", " UNION ALL SELECT 1".repeat(many)),
            1 => format!("SELECT 1 FROM data_d WHERE {text} IS NOT NULL"),
            2 => {
                let (before, after) = ("SELECT * FROM (".repeat(many), ")".repeat(many));
                format!("{before}SELECT 1{after}")
            }
            3 => {
                let name = |author: &mut Self| format!("data_d AS {}", author.name("j"));
                let tables = self.list(many.min(40), name);
                format!("SELECT count(*) FROM {tables}")
            }
            _ => format!("SELECT {text}"),
        }
    }

    fn with(&mut self, depth: usize) -> String {
        let name = self.name("c");
        let (inner, outer) = (self.query(depth), self.query(depth));
        let with = if self.chance(20) {
            "WITH RECURSIVE"
        } else {
            "WITH"
        };
        match self.random.u8(..3) {
            0 => format!("{with} {name} AS ({inner}) SELECT * FROM {name}, ({outer}) AS o"),
            1 => format!("{with} {name} AS ({inner}) SELECT count(*) FROM {name} a, {name} b"),
            _ => format!("{with} data_d AS ({inner}) SELECT * FROM data_d UNION ALL {outer}"),
        }
    }

    fn query(&mut self, depth: usize) -> String {
        let outside = self.scope.len();
        let from = self.from(depth);
        let distinct = if self.chance(10) { "DISTINCT " } else { "" };
        let count = self.random.usize(1..4);
        let mut grouped = String::new();
        let columns = if self.chance(30) {
            let kind = self.kind();
            let group = self.expression(kind, depth.min(1));
            let aggregates = self.list(count, |author| author.aggregate(depth.saturating_sub(1)));
            grouped = self.group_by(&group);
            format!("{group}, {aggregates}")
        } else if self.chance(15) {
            "*".to_owned()
        } else {
            self.list(count, |author| author.column(depth))
        };
        let mut text = format!("SELECT {distinct}{columns}{from}");
        if self.chance(50) {
            text += &format!(" WHERE {}", self.expression(Kind::Truth, depth));
        }
        text += &grouped;
        if self.chance(30) {
            text += &format!(" ORDER BY {}", self.word("orders"));
        }
        if self.chance(30) {
            text += &format!(" LIMIT {}", self.word("limits"));
        }
        if self.chance(10) {
            text += &format!(" OFFSET {}", self.word("limits"));
        }
        self.scope.truncate(outside);
        if depth > 0 && self.chance(8) {
            let set = self.word("sets");
            text = format!("({text}) {set} ({})", self.query(depth - 1));
        }
        text
    }

    fn column(&mut self, depth: usize) -> String {
        let kind = self.kind();
        let text = self.expression(kind, depth);
        match self.random.u8(..4) {
            0 => format!("{text} AS \"odd name\""),
            1 => format!("{text} AS {}", self.name("x")),
            _ => text,
        }
    }

    fn group_by(&mut self, group: &str) -> String {
        let mut text = match self.random.u8(..8) {
            0 => format!(" GROUP BY ROLLUP ({group})"),
            1 => format!(" GROUP BY GROUPING SETS (({group}), ())"),
            2 => " GROUP BY ALL".to_owned(),
            3 => " GROUP BY 1".to_owned(),
            _ => format!(" GROUP BY {group}"),
        };
        if self.chance(30) {
            text += &format!(" HAVING {} IS NOT NULL", self.aggregate(0));
        }
        text
    }

    fn from(&mut self, depth: usize) -> String {
        let mut text = String::new();
        for place in 0..self.random.usize(0..3) {
            let table = table(self.random);
            let alias = self.name("t");
            let source = match self.random.u8(..10) {
                0 if depth > 0 => format!("(SELECT * FROM {} LIMIT 3)", table.name),
                1 if depth > 0 => format!("LATERAL (SELECT * FROM {})", table.name),
                _ => table.name.to_owned(),
            };
            self.scope.push((alias.clone(), table));
            text += &match (place, self.random.u8(..4)) {
                (0, _) => format!(" FROM {source} AS {alias}"),
                (_, 0) => format!(", {source} AS {alias}"),
                (_, 1) => format!(" CROSS JOIN {source} AS {alias}"),
                _ => {
                    let (join, on) = (self.word("joins"), self.expression(Kind::Truth, 1));
                    format!(" {join} {source} AS {alias} ON {on}")
                }
            };
        }
        text
    }

    fn aggregate(&mut self, depth: usize) -> String {
        if self.chance(10) {
            return "count(*)".to_owned();
        }
        let (name, count) = self.word("aggregates").split_once(' ').unwrap();
        let arguments = self.list(count.parse().unwrap(), |author| {
            let kind = GATHERED[author.random.usize(..GATHERED.len())];
            author.expression(kind, depth.min(1))
        });
        let distinct = if self.chance(15) { "DISTINCT " } else { "" };
        let order = if self.chance(10) { " ORDER BY 1" } else { "" };
        let mut text = format!("{name}({distinct}{arguments}{order})");
        if self.chance(10) {
            text += &format!(" FILTER (WHERE {})", self.expression(Kind::Truth, 0));
        }
        if self.chance(10) {
            text += &self.over(depth);
        }
        text
    }

    fn over(&mut self, depth: usize) -> String {
        let kind = self.kind();
        let by = self.expression(kind, depth.min(1));
        let frame = if self.chance(50) {
            self.word("frames")
        } else {
            ""
        };
        match self.random.u8(..3) {
            0 => format!(" OVER (ORDER BY {by} {frame})"),
            1 => format!(" OVER (PARTITION BY {by} ORDER BY 1 {frame})"),
            _ => " OVER ()".to_owned(),
        }
    }

    /// Generates an expression that is likely to be of the kind.
    fn expression(&mut self, kind: Kind, depth: usize) -> String {
        if depth == 0 || self.chance(15) {
            return self.leaf(kind);
        }
        let next = depth - 1;
        match self.random.u8(..100) {
            0..=29 => self.function(next),
            30..=36 => {
                let when = self.expression(Kind::Truth, next);
                let (one, other) = self.two(kind, next);
                format!("CASE WHEN {when} THEN {one} ELSE {other} END")
            }
            37..=44 => {
                let other = self.kind();
                let (what, to) = (self.expression(other, next), self.word("types"));
                let cast = if self.chance(50) { "TRY_CAST" } else { "CAST" };
                format!("{cast}({what} AS {to})")
            }
            45..=49 => {
                let other = self.kind();
                let (what, to) = (self.expression(other, next), self.word("arrow types"));
                format!("arrow_cast({what}, '{to}')")
            }
            50..=53 => format!("({} LIMIT 1)", self.query(next)),
            54..=57 => self.word("windows").to_owned() + &self.over(next),
            58..=61 => {
                let list = self.expression(Kind::List, next);
                format!("({list}){}", self.word("indexes"))
            }
            _ => self.operation(kind, next),
        }
    }

    fn two(&mut self, kind: Kind, depth: usize) -> (String, String) {
        (self.expression(kind, depth), self.expression(kind, depth))
    }

    fn operation(&mut self, kind: Kind, depth: usize) -> String {
        match kind {
            Kind::Number if self.chance(30) => {
                let (what, field) = (self.expression(Kind::Instant, depth), self.word("fields"));
                format!("EXTRACT({field} FROM {what})")
            }
            Kind::Number => {
                let (one, other) = self.two(kind, depth);
                format!("({one} {} {other})", self.word("sums"))
            }
            Kind::Text => {
                let (one, other) = self.two(kind, depth);
                format!("({one} || {other})")
            }
            Kind::Instant => {
                let at = self.expression(kind, depth);
                let sign = if self.chance(50) { "+" } else { "-" };
                format!("({at} {sign} {})", self.expression(Kind::Span, depth))
            }
            Kind::Span => {
                let (one, other) = self.two(Kind::Instant, depth);
                format!("({one} - {other})")
            }
            Kind::List => {
                let (one, other) = self.two(Kind::Number, depth);
                format!("[{one}, {other}]")
            }
            Kind::Truth => self.condition(depth),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        let kind = self.kind();
        let (one, other) = self.two(kind, depth);
        match self.random.u8(..10) {
            0 => format!("({one} BETWEEN {other} AND {})", self.leaf(kind)),
            1 => format!("({one} IN ({other}, {}))", self.leaf(kind)),
            2 => format!("({one} IN (SELECT {other}))"),
            3 => format!("EXISTS ({})", self.query(depth.min(1))),
            4 => format!("(NOT ({one}) OR {})", self.leaf(Kind::Truth)),
            5 => format!("({one} {} {other})", self.word("matches")),
            6 => format!("({one} IS NULL)"),
            7 => format!("({one} = ANY({other}))"),
            _ => format!("({one} {} {other})", self.word("comparisons")),
        }
    }

    /// Generates a call of any function of the engine, with arguments that are likely to have valid types.
    fn function(&mut self, depth: usize) -> String {
        let (name, forms) = &self.functions[self.random.usize(..self.functions.len())];
        let kinds = &forms[self.random.usize(..forms.len())];
        let mut arguments: Vec<String> = Vec::new();
        for kind in kinds {
            let kind = if self.chance(10) { self.kind() } else { *kind };
            arguments.push(self.expression(kind, depth));
        }
        match self.random.u8(..20) {
            0 => arguments.truncate(1),
            1 => arguments.push(self.leaf(Kind::Number)),
            _ => {}
        }
        format!("{name}({})", arguments.join(", "))
    }

    /// Generates a column, a value or a parameter.
    fn leaf(&mut self, kind: Kind) -> String {
        if self.chance(4) {
            return "?".to_owned();
        }
        if !self.scope.is_empty() && self.chance(60) {
            let (alias, table) = &self.scope[self.random.usize(..self.scope.len())];
            let fitting = table.columns.iter().filter(|(_, of)| *of == kind);
            let fitting: Vec<&str> = fitting.map(|(name, _)| *name).collect();
            if let Some(name) = self.random.choice(fitting) {
                return format!("{alias}.{name}");
            }
        }
        self.word(kind.name()).to_owned()
    }
}
