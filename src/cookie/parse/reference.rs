//! The rules of the [cookie module](crate::cookie) once more, written for the eye alone: copies everything, and
//! looks at it as often as it likes. Tests and fuzz targets hold the parser to it.

use super::{CookieLimits, Found};

/// What a request has under this name, and the values that may open a session.
pub(crate) type Seen = (&'static str, Vec<Vec<u8>>);

/// What the parser found, in the words of this module.
pub(crate) fn seen(found: Found<'_>) -> Seen {
    let shape = match found {
        Found::None => "none",
        Found::One(_) => "one",
        Found::Repeated(_) => "repeated",
        Found::Two(..) => "two",
        Found::Conflicting => "conflicting",
        Found::OverLimit(_) => "over limit",
    };
    let values = found.values().into_iter().flatten();
    (shape, values.map(<[u8]>::to_vec).collect())
}

pub(crate) fn find(
    name: &[u8],
    host_locked: bool,
    limits: CookieLimits,
    lines: &[Vec<u8>],
) -> Seen {
    let pairs: Vec<Vec<u8>> = lines.iter().flat_map(|line| pairs(line)).collect();
    let bytes: usize = lines.iter().map(Vec::len).sum();
    if bytes > limits.max_bytes || pairs.len() > limits.max_pairs {
        return ("over limit", Vec::new());
    }
    let ours: Vec<Vec<u8>> = pairs
        .iter()
        .filter_map(|pair| name_and_value(pair))
        .filter(|(candidate, _)| candidate == name)
        .map(|(_, value)| value)
        .collect();
    let mut distinct: Vec<Vec<u8>> = Vec::new();
    for value in &ours {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    match distinct.len() {
        0 => ("none", distinct),
        1 if ours.len() == 1 => ("one", distinct),
        1 => ("repeated", distinct),
        2 if !host_locked => ("two", distinct),
        _ => ("conflicting", Vec::new()),
    }
}

pub(crate) fn pairs(line: &[u8]) -> Vec<Vec<u8>> {
    let mut pairs = vec![Vec::new()];
    for &byte in line {
        if byte == b';' {
            pairs.push(Vec::new());
        } else if let Some(last) = pairs.last_mut() {
            last.push(byte);
        }
    }
    pairs
}

pub(crate) fn name_and_value(pair: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut before = Vec::new();
    let mut after = Vec::new();
    let mut seen = false;
    for &byte in pair {
        match (seen, byte) {
            (false, b'=') => seen = true,
            (false, _) => before.push(byte),
            (true, _) => after.push(byte),
        }
    }
    seen.then(|| (stripped(before), stripped(after)))
}

fn stripped(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.first().is_some_and(|byte| b" \t".contains(byte)) {
        bytes.remove(0);
    }
    while bytes.last().is_some_and(|byte| b" \t".contains(byte)) {
        bytes.pop();
    }
    bytes
}
