//! Random requests, made from what a server's `COMMAND DOCS` says of each command's arguments.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;
use redis::{Value, from_redis_value};

/// A command, or a subcommand, and what may follow its name.
#[derive(Debug)]
pub struct Form {
    /// `get`, `xgroup|create`.
    pub name: String,
    /// `string`, `list`, …
    group: String,
    arguments: Vec<Argument>,
}

#[derive(Debug)]
struct Argument {
    name: String,
    kind: String,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    /// The token is written before each of several.
    repeated_token: bool,
    parts: Vec<Argument>,
}

/// All commands of a reply to `COMMAND DOCS`, subcommands among them.
pub fn forms(docs: &Value) -> BTreeMap<String, Form> {
    let mut forms = BTreeMap::new();
    for (name, docs) in pairs(docs) {
        let group: String = text(&docs, "group").unwrap_or_default();
        for (name, docs) in field(&docs, "subcommands").map(|subs| pairs(&subs)).unwrap_or_default() {
            forms.insert(name.clone(), form(name, &group, &docs));
        }
        forms.insert(name.clone(), form(name, &group, &docs));
    }
    forms
}

fn form(name: String, group: &str, docs: &Value) -> Form {
    Form {
        name,
        group: group.to_owned(),
        arguments: arguments(docs),
    }
}

fn arguments(docs: &Value) -> Vec<Argument> {
    let list: Vec<Value> = field(docs, "arguments").map_or_else(Vec::new, |list| from_redis_value(list).unwrap());
    let argument = |docs: &Value| {
        let flags: Vec<String> = field(docs, "flags").map_or_else(Vec::new, |flags| from_redis_value(flags).unwrap());
        let has = |flag: &str| flags.iter().any(|given| given == flag);
        Argument {
            name: text(docs, "name").unwrap(),
            kind: text(docs, "type").unwrap(),
            token: text(docs, "token"),
            optional: has("optional"),
            multiple: has("multiple"),
            repeated_token: has("multiple_token"),
            parts: arguments(docs),
        }
    };
    list.iter().map(argument).collect()
}

fn pairs(map: &Value) -> Vec<(String, Value)> {
    map.clone()
        .into_map_iter()
        .unwrap()
        .map(|(key, value)| (from_redis_value(key).unwrap(), value))
        .collect()
}

fn field(map: &Value, name: &str) -> Option<Value> {
    pairs(map)
        .into_iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

fn text(map: &Value, name: &str) -> Option<String> {
    field(map, name).map(|value| from_redis_value(value).unwrap())
}

/// What is chosen once per request.
struct Writer<'a> {
    rng: &'a mut StdRng,
    group: &'a str,
    /// All keys of the request have it; `None`: each has one of its own.
    tag: Option<&'static str>,
    keys: usize,
    /// A word before says how many keys there are.
    counted: bool,
    words: Vec<String>,
}

/// Hash tags of the keys: enough for every server to have some.
const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Commands whose keys may lie in several slots.
const OVER_SLOTS: [&str; 6] = ["mget", "mset", "del", "unlink", "exists", "touch"];

impl Form {
    /// A request, with keys in one slot where it takes that. Most fit what the keys hold, so that most do something.
    pub fn request(&self, rng: &mut StdRng) -> Vec<String> {
        let over_slots = OVER_SLOTS.contains(&self.name.as_str());
        let tag = (!over_slots).then(|| TAGS[rng.random_range(0..TAGS.len())]);
        // No word says how many these are.
        let keys = if over_slots { rng.random_range(1..6) } else { 1 };
        let mut writer = Writer {
            rng,
            group: &self.group,
            tag,
            keys,
            counted: false,
            words: self.name.split('|').map(str::to_owned).collect(),
        };
        self.arguments.iter().for_each(|argument| writer.write(argument));
        writer.words
    }
}

impl Writer<'_> {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    fn write(&mut self, argument: &Argument) {
        let due = self.counted && argument.kind == "key";
        if argument.optional && !due && self.rng.random_ratio(2, 3) {
            return;
        }
        let times = match (argument.kind.as_str(), argument.multiple) {
            (_, false) => 1,
            ("key", _) => self.keys,
            _ if argument.name == "weight" => self.keys,
            _ => self.rng.random_range(1..3),
        };
        for i in 0..times {
            if let Some(token) = argument.token.as_ref().filter(|_| i == 0 || argument.repeated_token) {
                self.words.push(token.clone());
            }
            self.write_value(argument);
        }
    }

    fn write_value(&mut self, argument: &Argument) {
        let word = match argument.kind.as_str() {
            "pure-token" => return,
            "block" => return argument.parts.iter().for_each(|part| self.write(part)),
            "oneof" => {
                // An ID of the server's own choice is another one at each server.
                let parts: Vec<_> = argument.parts.iter().filter(|part| part.name != "auto-id").collect();
                let part = self.rng.random_range(0..parts.len());
                return self.write(parts[part]);
            }
            "key" => self.key(),
            "integer" => self.integer(&argument.name),
            "double" => match argument.name.as_str() {
                "longitude" => self.pick(&["13.361389", "15.087269", "200"]).to_owned(),
                "latitude" => self.pick(&["38.115556", "37.502669"]).to_owned(),
                _ => self.pick(&["0", "1.5", "-2", "1000", "inf"]).to_owned(),
            },
            // Nothing ends while the test runs.
            "unix-time" => "4102444800000".to_owned(),
            "pattern" if self.group == "generic" => self.pick(&["nosort", "#"]).to_owned(),
            "pattern" => "*".to_owned(),
            _ => self.string(&argument.name),
        };
        self.words.push(word);
    }

    fn key(&mut self) -> String {
        let kinds = [
            "string",
            "list",
            "set",
            "sorted-set",
            "hash",
            "stream",
            "geo",
            "hyperloglog",
        ];
        let own = match self.group {
            "bitmap" => "string",
            group => group,
        };
        let kind = if kinds.contains(&own) && self.rng.random_ratio(9, 10) {
            own
        } else {
            self.pick(&kinds)
        };
        let tag = match self.tag {
            Some(tag) => tag,
            None => self.pick(&TAGS),
        };
        format!("{{{tag}}}{kind}{}", self.rng.random_range(0..3))
    }

    fn integer(&mut self, name: &str) -> String {
        match name {
            "numkeys" => {
                self.counted = true;
                self.keys = self.rng.random_range(1..3);
                self.keys.to_string()
            }
            // Another one, where nobody looks.
            "destination-db" => "3".to_owned(),
            "seconds" | "milliseconds" => "1000000000".to_owned(),
            // So that values stay small.
            "offset" | "bit" | "start" | "end" => self.pick(&["0", "1", "7", "100", "-1"]).to_owned(),
            _ => self.pick(&["0", "1", "2", "3", "10", "-1", "-2"]).to_owned(),
        }
    }

    fn string(&mut self, name: &str) -> String {
        let of: &[&str] = match name {
            "min" | "max" => &["-", "+", "(1", "[a", "[z", "0", "-inf", "+inf"],
            "start" | "end" | "stop" | "lastid" => &["-", "+", "0", "1-1", "5"],
            "id" | "threshold" | "last-id" | "start-id" => &["0", "0-1", "1-1", "2-1", "3-7", "9"],
            "group" | "groupname" => &["g", "h"],
            "consumer" | "consumername" => &["c", "d"],
            "encoding" => &["u8", "i16", "i64"],
            "script" => &[
                "return {1, 'a', redis.call('get', KEYS[1] or 'x')}",
                "return KEYS",
                "nonsense",
            ],
            _ => &[
                "a",
                "b",
                "c",
                "1",
                "2.5",
                "-3",
                "",
                "a longer value with spaces\r\nand lines",
            ],
        };
        self.pick(of).to_owned()
    }
}
