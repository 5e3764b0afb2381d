//! The public names: each type has a name of its own, and each name is used in an example.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source_text::{self, blank, words};

const TYPES: &[&str] = &["struct", "enum", "trait", "type"];
const IN_EXAMPLES: &[&str] = &["struct", "enum", "trait", "fn"];

#[test]
fn no_two_public_types_have_the_same_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in source_text::files() {
        for name in declared(&file.text, TYPES) {
            places.entry(name).or_default().push(file.path.clone());
        }
    }
    assert!(places.len() > 100, "only {} types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "rename all but one of each of these types: {places:#?}");
}

#[test]
fn every_public_type_trait_and_function_is_used_in_an_example_of_the_documentation() {
    let files = source_text::files();
    let mut used = BTreeSet::new();
    for text in files.iter().map(|file| doc_comments(&file.text)).chain(pages()) {
        used.extend(examples(&text).iter().flat_map(|code| code_words(code)));
    }
    let hidden: BTreeSet<_> = files.iter().flat_map(|file| hidden(&file.text)).collect();
    let missing: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let names = declared(&file.text, IN_EXAMPLES).into_iter();
            let names = names.filter(|name| !used.contains(name) && !hidden.contains(name));
            names.map(|name| (name, &file.path))
        })
        .map(|(name, path)| format!("{name} ({path})"))
        .collect();
    assert!(missing.is_empty(), "no example in the docs uses\n{}", missing.join("\n"));
}

/// The names of the public items of these kinds, of functions only those outside `impl` and `trait`.
fn declared(text: &str, kinds: &[&str]) -> Vec<String> {
    blank(text).lines().filter_map(|line| declaration(line, kinds)).map(str::to_owned).collect()
}

fn declaration<'a>(line: &'a str, kinds: &[&str]) -> Option<&'a str> {
    let item = line.trim_start().strip_prefix("pub ")?;
    let item = ["const ", "async ", "unsafe "]
        .iter()
        .fold(item, |rest, qualifier| rest.strip_prefix(qualifier).unwrap_or(rest));
    let (kind, rest) = item.split_once(' ')?;
    let is_method = kind == "fn" && line.starts_with(' ');
    if is_method || !kinds.contains(&kind) {
        return None;
    }
    words(rest).next()
}

/// The names of the items and re-exports with `#[doc(hidden)]`.
fn hidden(text: &str) -> Vec<String> {
    let blanked = blank(text);
    let after = blanked.split("#[doc(hidden)]\n").skip(1);
    let items = after.filter_map(|after| after.split_once("pub ").map(|(_, item)| item));
    let names = items.flat_map(|item| {
        if item.starts_with("use ") {
            let list = item.split(';').next().unwrap_or_default();
            words(list).map(str::to_owned).collect()
        } else {
            words(item).nth(1).map(str::to_owned).into_iter().collect::<Vec<_>>()
        }
    });
    names.filter(|name| name.starts_with(char::is_uppercase)).collect()
}

/// The README, and the Markdown files below `src`: the chapters of the guide, and long examples.
fn pages() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let paths = source_text::below("src", "md").into_iter().chain([readme]);
    paths.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The text of the doc comments, with a line of code between those of two items.
fn doc_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let docs = lines.map(|line| match line.strip_prefix("///").or(line.strip_prefix("//!")) {
        Some(doc) => doc.strip_prefix(' ').unwrap_or(doc),
        None => END_OF_DOCS,
    });
    docs.collect::<Vec<_>>().join("\n")
}

const END_OF_DOCS: &str = "\0";

/// The code blocks of Markdown that rustdoc compiles.
fn examples(markdown: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut block: Option<(bool, String)> = None;
    for line in markdown.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut block, fence) {
            (Some(_), Some(_)) => {
                let done = block.take().filter(|(is_compiled, _)| *is_compiled);
                examples.extend(done.map(|(_, code)| code));
            }
            (None, Some(tags)) => block = Some((are_compiled(tags), String::new())),
            (Some(_), None) if line == END_OF_DOCS => block = None,
            (Some((_, code)), None) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, None) => {}
        }
    }
    examples
}

/// Whether rustdoc compiles a block with these tags, and expects that to succeed.
fn are_compiled(tags: &str) -> bool {
    let mut tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    tags.all(|tag| ["rust", "no_run", "should_panic"].contains(&tag))
}

/// The words of an example, those in comments and literals left out.
fn code_words(code: &str) -> Vec<String> {
    words(&blank(code)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_types_and_free_functions_are_declared_and_methods_are_not() {
        let text = "pub struct A<T>(T);\npub(crate) struct B;\nstruct C;\npub async fn d() {}\n\
                    impl A {\n    pub fn e() {}\n}\n// pub enum F {}\npub trait G: H {}\n\
                    pub mod i {\n    pub enum J {}\n}\n";
        assert_eq!(declared(text, &["struct", "enum", "trait", "fn"]), ["A", "d", "G", "J"]);
    }

    #[test]
    fn hidden_items_and_hidden_re_exports_are_found() {
        let text = "#[doc(hidden)]\n#[derive(Clone)]\npub struct A;\n#[doc(hidden)]\npub use self::b::{\n    \
                    B, C,\n};\npub use self::d::D;\n#[doc(hidden)]\npub const E: u8 = 1;\n";
        assert_eq!(hidden(text), ["A", "B", "C", "E"]);
    }

    #[test]
    fn only_blocks_that_are_compiled_are_examples() {
        let markdown = "```\na\n```\n```text\nb\n```\n```rust,no_run\nc\n```\n\
                        ```compile_fail,E0277\nd\n```\n```ignore\ne\n```\n";
        assert_eq!(examples(markdown), ["a\n", "c\n"]);
    }

    #[test]
    fn an_example_ends_with_the_docs_that_it_is_in() {
        let text =
            "/// ```\n/// a\nfn b() {}\n    /// ```\n    /// c\n    /// ```\n    fn d() {}\n";
        assert_eq!(examples(&doc_comments(text)), ["c\n"]);
    }
}
