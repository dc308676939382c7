//! Generates inputs: new ones, and mutations of inputs that reached new edges.

use fastrand::Rng;

use crate::files;
use crate::input::{Bytes, Caller, Input, Way};
use crate::messages;
use crate::mutate;
use crate::send::SERVICE;
use crate::sql::{Author, Function};

/// The first bytes of a connection of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A generator of inputs with its corpus.
pub struct Inventor {
    random: Rng,
    functions: Vec<Function>,
    statements: Vec<String>,
    kept: Vec<Input>,
    /// Whether only Arrow data and files are generated.
    decodes_only: bool,
}

impl Inventor {
    /// Creates a generator whose inputs depend on `seed` and the corpus only.
    pub fn new(seed: u64, functions: Vec<Function>, statements: Vec<String>) -> Self {
        Self {
            random: Rng::with_seed(seed),
            functions,
            statements,
            kept: Vec::new(),
            decodes_only: false,
        }
    }

    /// Restricts the generator to inputs whose decoding allocates memory: Arrow data, parameters and files.
    pub fn decode_only(&mut self) {
        self.decodes_only = true;
    }

    /// Adds an input to the corpus of inputs to mutate.
    pub fn add(&mut self, input: Input) {
        self.kept.push(input);
    }

    /// Returns the corpus.
    pub fn kept(&self) -> &[Input] {
        &self.kept
    }

    /// Generates the next input.
    pub fn next(&mut self) -> Input {
        if self.decodes_only {
            return self.declared();
        }
        match self.random.u8(..100) {
            0..=34 => {
                let sql = Author::new(&mut self.random, &self.functions).statement();
                self.of_sql(sql)
            }
            35..=49 => {
                let (one, other) = (self.statement(), self.statement());
                let sql = mutate::text(&mut self.random, &one, &other);
                self.of_sql(sql)
            }
            50..=69 if !self.kept.is_empty() => self.changed(),
            50..=84 => {
                let (caller, sql) = (self.caller(), self.statement());
                let mut input = messages::call(&mut self.random, caller, &sql);
                if self.random.u8(..10) > 0 {
                    self.damage_messages(&mut input);
                }
                input
            }
            85..=94 => {
                let (caller, sql) = (self.caller(), self.statement());
                let mut input = messages::stream(&mut self.random, caller, &sql);
                if self.random.u8(..10) > 1 {
                    self.damage_messages(&mut input);
                }
                input
            }
            95 => self.frames(),
            96 | 97 => self.file(),
            _ => self.connection(),
        }
    }

    /// Generates parameters, readings or a file with false declared sizes or types.
    fn declared(&mut self) -> Input {
        match self.random.u8(..10) {
            0..=2 if !self.kept.is_empty() => self.changed(),
            0..=4 => self.file(),
            5..=7 => {
                let mut input = messages::stream(&mut self.random, Caller::Operators, "SELECT 1");
                self.damage_messages(&mut input);
                input
            }
            _ => {
                let way = [Way::Prepare, Way::Fetch][self.random.usize(..2)];
                let mut input = Input::sql(Caller::Boilers, way, "SELECT $1 AS a, $2 AS b");
                input.messages = messages::parameters(&mut self.random, 2);
                self.damage_messages(&mut input);
                input
            }
        }
    }

    fn statement(&mut self) -> String {
        if self.random.bool() {
            return Author::new(&mut self.random, &self.functions).statement();
        }
        self.statements[self.random.usize(..self.statements.len())].clone()
    }

    fn caller(&mut self) -> Caller {
        match self.random.u8(..100) {
            0..=44 => Caller::Operators,
            45..=79 => Caller::Boilers,
            80..=91 => Caller::Admin,
            92..=95 => Caller::Nobody,
            _ => {
                let schemes = [
                    "Bearer eyJhbGciOiJFZERTQSJ9.e30.AA",
                    "Basic YTpi",
                    "Bearer pl_x",
                ];
                let mut header = schemes[self.random.usize(..schemes.len())]
                    .as_bytes()
                    .to_vec();
                mutate::damage(&mut self.random, &mut header);
                // Other bytes are not valid in a header, so the client could not send them.
                header.retain(|byte| (32..127).contains(byte));
                Caller::Header(String::from_utf8_lossy(&header).into_owned())
            }
        }
    }

    fn way(&mut self) -> Way {
        match self.random.u8(..100) {
            0..=49 => Way::Ask,
            50..=54 => Way::Poll,
            55..=59 => Way::Schema,
            60..=84 => Way::Prepare,
            85..=95 => Way::Fetch,
            _ => Way::Update,
        }
    }

    fn of_sql(&mut self, sql: String) -> Input {
        let (caller, mut way) = (self.caller(), self.way());
        let count = sql.matches(['?', '$']).count().min(8);
        if count > 0 && self.random.u8(..5) > 0 {
            // Only prepared statements have parameters.
            way = if self.random.bool() {
                Way::Prepare
            } else {
                Way::Fetch
            };
        }
        let mut input = Input::sql(caller, way, sql);
        if matches!(way, Way::Prepare | Way::Fetch) && (count > 0 || self.random.u8(..10) == 0) {
            input.messages = messages::parameters(&mut self.random, count);
            if self.random.u8(..4) == 0 {
                self.damage_messages(&mut input);
            }
        }
        if self.random.u8(..50) == 0 {
            let (at, bits) = (self.random.usize(..4_096), self.random.u8(1..));
            input.damage.push((at, bits));
        }
        input
    }

    /// Mutates an input of the corpus; recent ones are more likely.
    fn changed(&mut self) -> Input {
        let count = self.kept.len();
        let at = if self.random.bool() {
            self.random.usize(..count)
        } else {
            count - 1 - self.random.usize(..count.min(50))
        };
        let mut input = self.kept[at].clone();
        if self.random.u8(..4) == 0 {
            input.caller = self.caller();
        }
        if let (Way::File, [Bytes(bytes), ..]) = (input.way, input.messages.as_mut_slice()) {
            files::damage_file(&mut self.random, bytes);
            return input;
        }
        if !input.way.is_sql() {
            self.damage_messages(&mut input);
            return input;
        }
        if self.random.u8(..4) == 0 {
            input.way = self.way();
        }
        let other = match self.random.usize(..count * 2) {
            at if at < count && self.kept[at].way.is_sql() => self.kept[at].text.clone(),
            _ => self.statement(),
        };
        if input.messages.is_empty() || self.random.bool() {
            input.text = mutate::text(&mut self.random, &input.text, &other);
        } else {
            self.damage_messages(&mut input);
        }
        input
    }

    fn damage_messages(&mut self, input: &mut Input) {
        if input.messages.is_empty() {
            input.messages.push(Bytes::default());
        }
        for _ in 0..self.random.usize(1..3) {
            let count = input.messages.len();
            let at = self.random.usize(..count);
            let is_data = input.way.is_sql() || input.text.ends_with("DoPut");
            let Bytes(message) = &mut input.messages[at];
            match self.random.u8(..10) {
                0..=5 if is_data => mutate::flight_data(&mut self.random, message),
                0..=7 => mutate::message(&mut self.random, message),
                8 => mutate::damage(&mut self.random, message),
                _ if count < 20 => {
                    let again = input.messages[at].clone();
                    input.messages.insert(self.random.usize(..count), again);
                }
                _ => drop(input.messages.remove(at)),
            }
        }
    }

    /// Generates a raw file that is damaged up to three times.
    fn file(&mut self) -> Input {
        let mut bytes = files::file(&mut self.random);
        for _ in 0..self.random.usize(..4) {
            files::damage_file(&mut self.random, &mut bytes);
        }
        let mut input = Input::call(Caller::Nobody, "", vec![bytes]);
        input.way = Way::File;
        input
    }

    /// Generates a call with invalid gRPC frames.
    fn frames(&mut self) -> Input {
        let (caller, sql) = (self.caller(), self.statement());
        let mut input = messages::call(&mut self.random, caller, &sql);
        let messages = input.messages.iter().map(|message| message.0.as_slice());
        let mut body = crate::wire::framed(messages);
        match self.random.u8(..6) {
            0 => body[0] = self.random.u8(..),
            1 => {
                let length = body.len().min(5);
                let at = self.random.usize(1..length);
                body[at] = self.random.u8(..);
            }
            2 => body.truncate(self.random.usize(..body.len())),
            3 => body.extend_from_within(..),
            4 => body.clear(),
            _ => mutate::damage(&mut self.random, &mut body),
        }
        if self.random.u8(..4) == 0 {
            let mut path = input.text.into_bytes();
            mutate::damage(&mut self.random, &mut path);
            path.retain(u8::is_ascii_graphic);
            input.text = String::from_utf8_lossy(&path).into_owned();
        } else if self.random.u8(..4) == 0 {
            input.text = format!("{SERVICE}DoPut");
        }
        input.messages = vec![Bytes(body)];
        input.way = Way::Frames;
        input
    }

    fn connection(&mut self) -> Input {
        let mut bytes = PREFACE.to_vec();
        for _ in 0..self.random.usize(..6) {
            // The length, type, flags, stream and payload of an HTTP/2 frame.
            let length = self.random.usize(..64);
            let (kind, flags) = (self.random.u8(..12), self.random.u8(..));
            let stream = self.random.u8(..6);
            let length_byte = u8::try_from(length).unwrap();
            bytes.extend([0, 0, length_byte, kind, flags, 0, 0, 0, stream]);
            bytes.extend((0..length).map(|_| self.random.u8(..)));
        }
        if self.random.bool() {
            mutate::damage(&mut self.random, &mut bytes);
        }
        let mut input = Input::call(Caller::Nobody, "", vec![bytes]);
        input.way = Way::Connection;
        input
    }
}
