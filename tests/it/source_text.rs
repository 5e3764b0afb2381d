//! Reads Rust text as the tests on the source need it: without comments and literals, with full
//! paths. Every function but [`files`] is a pure function on text.

use std::fs;
use std::path::{Path, PathBuf};

/// One file under `src`, without its unit tests.
pub struct File {
    /// From the root of the package: `src/session/machine.rs`.
    pub path: String,
    /// `["session", "machine"]`; empty for `lib.rs`.
    pub module: Vec<String>,
    pub text: String,
}

/// All that `src` has, modules of unit tests left out.
pub fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        File { module: module(&path), text: production(&text).to_owned(), path }
    };
    let files = below("src", "rs").into_iter().map(read);
    let mut files: Vec<_> =
        files.filter(|file| file.module.iter().all(|part| part != "tests")).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "src was not found");
    files
}

/// The files with this extension below a folder of the package, those of test servers left out.
pub fn below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("peers")));
            } else if path.extension().is_some_and(|of_path| of_path == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// The words of a text: letters, digits and `_`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The module that a file holds: `src/session/machine.rs` is `session::machine`.
pub fn module(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The text before the module of unit tests. A module in a file of its own does not end it.
pub fn production(text: &str) -> &str {
    let is_inline = |item: &str| {
        let body = item.find(['{', ';']).map(|at| &item[at..]);
        item.starts_with("mod ") && body.is_some_and(|body| body.starts_with('{'))
    };
    text.match_indices("#[cfg(test)]\n")
        .find(|(at, found)| is_inline(text[at + found.len()..].trim_start()))
        .map_or(text, |(at, _)| &text[..at])
}

/// The text with a space for every character of a comment or a literal. Lines stay where they are.
pub fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let inside_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = opaque(rest, inside_word);
        let (taken, after) = rest.split_at(length.max(next.len_utf8()));
        if length == 0 {
            out.push(next);
        } else {
            out.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// How many bytes the comment or literal has that begins here; 0 if none does.
fn opaque(text: &str, inside_word: bool) -> usize {
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    if text.starts_with("//") {
        return to(text.find('\n'));
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if let Some(body) = text.strip_prefix('"') {
        return to(closing_quote(body, '"').map(|end| end + 1));
    }
    if let Some(body) = text.strip_prefix('\'') {
        let is_char = body.starts_with('\\') || body.chars().nth(1) == Some('\'');
        return if is_char { to(closing_quote(body, '\'').map(|end| end + 1)) } else { 0 };
    }
    let raw = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix));
    if let Some(body) = raw.filter(|_| !inside_word) {
        let hashes = body.len() - body.trim_start_matches('#').len();
        if body[hashes..].starts_with('"') {
            let end = format!("\"{}", &body[..hashes]);
            let start = text.len() - body.len() + hashes + 1;
            return to(text[start..].find(&end).map(|at| start + at + end.len()));
        }
    }
    0
}

fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the text behind the closing quote begins.
fn closing_quote(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    body.char_indices().find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

/// A word, a lifetime, `::`, or any other single character, with its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// The tokens of a text that went through [`blank`].
pub fn tokens(blanked: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (number, line) in blanked.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |from: usize| {
                let ends = |c: char| !(c.is_alphanumeric() || c == '_');
                rest[from..].find(ends).map_or(rest.len(), |at| from + at)
            };
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                '\'' => word(1),
                c if c.is_alphanumeric() || c == '_' => word(0),
                c => c.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            tokens.push(Token { line: number + 1, text });
            rest = after.trim_start();
        }
    }
    tokens
}

/// A path as it stands in `use` or in an expression, with its line. `crate`, `self` and `super`
/// are resolved: such a path is [`Root::Crate`]. A group gives one path for each of its leaves.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub line: usize,
    pub root: Root,
    pub path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Crate,
    Elsewhere,
}

/// All paths of more than one part, and all that a `use` names, in the text of `module`.
pub fn paths(module: &[String], text: &str) -> Vec<Found> {
    let blanked = blank(text);
    let tokens = tokens(&blanked);
    let text_at = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = |at: usize, by: usize| at.checked_sub(by).map_or("", text_at);
    let mut found = Vec::new();
    let mut inner = Inner::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        inner.step(token.text, text_at(at + 1), text_at(at + 2));
        let begins = token.is_word() && before(at, 1) != "::";
        let is_path = text_at(at + 1) == "::" || before(at, 1) == "use";
        let is_visibility = before(at, 1) == "in" && before(at, 2) == "(";
        if !(begins && is_path) {
            at += 1;
            continue;
        }
        let mut written = Vec::new();
        let line = token.line;
        at = expand(&tokens, at, &[], &mut written).max(at + 1);
        if !is_visibility {
            let here: Vec<_> = module.iter().cloned().chain(inner.names()).collect();
            found.extend(written.into_iter().map(|path| resolve(&here, line, path)));
        }
    }
    found
}

/// The modules that are open within the file.
#[derive(Default)]
struct Inner {
    depth: usize,
    open: Vec<(String, usize)>,
}

impl Inner {
    fn step(&mut self, token: &str, next: &str, after: &str) {
        match token {
            "mod" if after == "{" => self.open.push((next.to_owned(), self.depth)),
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                self.open.retain(|(_, depth)| *depth < self.depth);
            }
            _ => {}
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|(name, _)| name.clone())
    }
}

/// Reads one path or tree of paths and returns where it ends.
fn expand(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        at += 1;
        if token.text == "{" {
            return expand_group(tokens, at, &path, out);
        }
        let names_prefix = token.text == "self" && !path.is_empty();
        if token.is_word() && !names_prefix {
            path.push(token.text.to_owned());
        }
        let follows = |by: usize| tokens.get(at + by).map(|token| (token.text, token.is_word()));
        let goes_on = follows(0).is_some_and(|(text, _)| text == "::")
            && follows(1).is_some_and(|(text, is_word)| is_word || text == "{" || text == "*");
        if goes_on {
            at += 1;
            continue;
        }
        if follows(0).is_some_and(|(text, _)| text == "as") {
            at += 2;
        }
        break;
    }
    out.push(path);
    at
}

fn expand_group(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<Vec<String>>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            "," => at += 1,
            _ => at = expand(tokens, at, prefix, out),
        }
    }
    at
}

fn resolve(here: &[String], line: usize, path: Vec<String>) -> Found {
    let supers = path.iter().take_while(|part| *part == "super" || *part == "self").count();
    let (root, path) = match path.first().map(String::as_str) {
        Some("crate") => (Root::Crate, path[1..].to_vec()),
        Some("super" | "self") => {
            let up = path[..supers].iter().filter(|part| *part == "super").count();
            let kept = here.len().saturating_sub(up);
            (Root::Crate, here[..kept].iter().chain(&path[supers..]).cloned().collect())
        }
        _ => (Root::Elsewhere, path),
    };
    Found { line, root, path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_paths(module: &str, text: &str) -> Vec<(usize, String)> {
        paths(&self::module(module), text)
            .into_iter()
            .filter(|found| found.root == Root::Crate)
            .map(|found| (found.line, found.path.join("::")))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# '\\'' 'l' &'m n";
        let blanked = blank(text);
        let words: Vec<_> = tokens(&blanked).iter().map(|t| (t.line, t.text)).collect();
        assert_eq!(words, [(1, "a"), (1, "e"), (2, "i"), (2, "&"), (2, "'m"), (2, "n")]);
    }

    #[test]
    fn text_behind_an_unclosed_literal_is_blanked_to_its_end() {
        assert_eq!(blank("a \"b").trim_end(), "a");
        assert_eq!(blank("a /* b").trim_end(), "a");
        assert_eq!(blank("a r#\"b\"").trim_end(), "a");
    }

    #[test]
    fn a_tree_of_uses_gives_each_of_its_paths() {
        let text = "use crate::{\n  error::{self, Kind as K},\n  key::*,\n  task,\n};";
        let found = crate_paths("src/a.rs", text);
        let paths: Vec<_> = found.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(paths, ["error", "error::Kind", "key", "task"]);
    }

    #[test]
    fn paths_in_expressions_types_and_attributes_are_found_with_their_line() {
        let text = "fn f(x: &crate::a::X) {\n  Vec::<crate::b::Y>::new();\n  crate::c::z();\n}";
        let expected = [(1, "a::X"), (2, "b::Y"), (3, "c::z")].map(|(l, p)| (l, p.to_owned()));
        assert_eq!(crate_paths("src/a.rs", text), expected);
    }

    #[test]
    fn super_and_self_are_resolved_from_where_they_stand() {
        let text = "use super::slot;\nmod os { use super::LAG; fn f() { super::super::x(); } }\n\
                    use self::inner::Y;";
        let found = crate_paths("src/session/machine.rs", text);
        let paths: Vec<_> = found.iter().map(|(_, path)| path.as_str()).collect();
        let expected =
            ["session::slot", "session::machine::LAG", "session::x", "session::machine::inner::Y"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_visibility_is_no_use() {
        assert_eq!(crate_paths("src/a/b.rs", "pub(in crate::a) fn f() {}"), []);
    }

    #[test]
    fn unit_tests_are_no_production_text() {
        let text = "fn a() {}\n#[cfg(test)]\nfn helper() {}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(production(text), "fn a() {}\n#[cfg(test)]\nfn helper() {}\n");
        let text = "#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(production(text), "#[cfg(test)]\nmod tests;\nfn a() {}\n");
    }
}
