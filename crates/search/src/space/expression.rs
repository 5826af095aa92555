//! Arithmetic over the names of fields: what a tie is written in.

use std::fmt;

/// A sum, product or number over named fields, such as `2 * lora_rank`: `+ - * /`, parentheses, `min(a, b)`, `max(a, b)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    Name(String),
    Apply(Operator, Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
}

/// An expression that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{text}`, column {column}: {what}")]
pub struct ExpressionError {
    /// The expression.
    pub text: String,
    /// Where, from 1, in characters.
    pub column: usize,
    /// What was expected.
    pub what: String,
}

/// Deeper than anything that is written by hand.
const MAX_DEPTH: usize = 50;

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`ExpressionError`] where it is not one.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut reader = Reader { characters: text.chars().collect(), at: 0, depth: 0 };
        let whole = |reader: &mut Reader| {
            let root = reader.sum()?;
            reader.space();
            if reader.at < reader.characters.len() {
                Err("expected an operator or the end".to_owned())
            } else {
                Ok(root)
            }
        };
        match whole(&mut reader) {
            Ok(root) => Ok(Self { text: text.to_owned(), root }),
            Err(what) => Err(ExpressionError { text: text.to_owned(), column: reader.at + 1, what }),
        }
    }

    /// The names in it, each once, in order.
    pub fn names(&self) -> Vec<&str> {
        fn collect<'n>(node: &'n Node, names: &mut Vec<&'n str>) {
            match node {
                Node::Number(_) => {}
                Node::Name(name) if names.contains(&name.as_str()) => {}
                Node::Name(name) => names.push(name),
                Node::Apply(_, left, right) => {
                    collect(left, names);
                    collect(right, names);
                }
            }
        }
        let mut names = Vec::new();
        collect(&self.root, &mut names);
        names
    }

    /// Its value; none where a name has no number.
    pub fn evaluate(&self, number: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
        fn of(node: &Node, number: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
            Some(match node {
                Node::Number(value) => *value,
                Node::Name(name) => number(name)?,
                Node::Apply(operator, left, right) => {
                    let (left, right) = (of(left, number)?, of(right, number)?);
                    match operator {
                        Operator::Add => left + right,
                        Operator::Subtract => left - right,
                        Operator::Multiply => left * right,
                        Operator::Divide => left / right,
                        Operator::Min => left.min(right),
                        Operator::Max => left.max(right),
                    }
                }
            })
        }
        of(&self.root, number)
    }

    /// The same with other names.
    pub fn renamed(&self, name: &dyn Fn(&str) -> String) -> Self {
        fn of(node: &Node, name: &dyn Fn(&str) -> String) -> Node {
            match node {
                Node::Number(value) => Node::Number(*value),
                Node::Name(old) => Node::Name(name(old)),
                Node::Apply(operator, left, right) => {
                    Node::Apply(*operator, Box::new(of(left, name)), Box::new(of(right, name)))
                }
            }
        }
        Self { text: self.text.clone(), root: of(&self.root, name) }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Reader {
    characters: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn space(&mut self) {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.space();
        let found = self.characters.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.takes(wanted) { Ok(()) } else { Err(format!("expected `{wanted}`")) }
    }

    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        loop {
            let operator = match () {
                () if self.takes('+') => Operator::Add,
                () if self.takes('-') => Operator::Subtract,
                () => return Ok(left),
            };
            left = Node::Apply(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.factor()?;
        loop {
            let operator = match () {
                () if self.takes('*') => Operator::Multiply,
                () if self.takes('/') => Operator::Divide,
                () => return Ok(left),
            };
            left = Node::Apply(operator, Box::new(left), Box::new(self.factor()?));
        }
    }

    fn factor(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        let node = self.operand();
        self.depth -= 1;
        node
    }

    fn operand(&mut self) -> Result<Node, String> {
        if self.takes('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(inner);
        }
        if self.takes('-') {
            return Ok(Node::Apply(Operator::Subtract, Box::new(Node::Number(0.0)), Box::new(self.factor()?)));
        }
        self.space();
        let start = self.at;
        match self.characters.get(self.at) {
            Some(c) if c.is_ascii_digit() || *c == '.' => self.number(start),
            Some(c) if c.is_alphabetic() || *c == '_' => {
                // A path has dots and indices: `stages[0].mix.domain`.
                let in_name = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
                while self.characters.get(self.at).is_some_and(in_name) {
                    self.at += 1;
                }
                let name: String = self.characters[start..self.at].iter().collect();
                let operator = match name.as_str() {
                    "min" => Operator::Min,
                    "max" => Operator::Max,
                    _ => return Ok(Node::Name(name)),
                };
                self.expect('(')?;
                let left = self.sum()?;
                self.expect(',')?;
                let right = self.sum()?;
                self.expect(')')?;
                Ok(Node::Apply(operator, Box::new(left), Box::new(right)))
            }
            _ => Err("expected a number, a name or `(`".into()),
        }
    }

    fn number(&mut self, start: usize) -> Result<Node, String> {
        while let Some(c) = self.characters.get(self.at) {
            let after_exponent = matches!(self.characters[start..self.at].last(), Some('e' | 'E'));
            let exponent = matches!(c, 'e' | 'E') && self.at > start && !after_exponent;
            if !(c.is_ascii_digit() || *c == '.' || exponent || (after_exponent && matches!(c, '+' | '-'))) {
                break;
            }
            self.at += 1;
        }
        let text: String = self.characters[start..self.at].iter().collect();
        text.parse().map(Node::Number).map_err(|_| format!("`{text}` is no number"))
    }
}
