//! The names and versions in the documentation exist.

use std::path::Path;

use session_warden::provider::oauth2::Preset;

use crate::source_text;

#[test]
fn every_public_async_function_says_what_dropping_it_does() {
    let faults: Vec<_> = source_text::files()
        .iter()
        .flat_map(|file| {
            let silent = without_section(&file.text, "# Cancel safety");
            silent.into_iter().map(|(line, name)| format!("{}:{line}: {name}", file.path))
        })
        .collect();
    assert!(faults.is_empty(), "no `# Cancel safety` in the docs of\n{}", faults.join("\n"));
}

#[test]
fn the_readme_names_this_version() {
    let readme = include_str!("../../README.md");
    for stated in stated_versions(readme) {
        let ours = env!("CARGO_PKG_VERSION");
        assert!(covers(&stated, ours), "README asks for {stated}, but this is {ours}");
    }
}

#[test]
fn every_setting_has_its_place_in_the_chapter_on_defaults() {
    let linked = linked(include_str!("../../src/guide/defaults.md"));
    let settings: Vec<_> = ["src/policy.rs", "src/policy/limits.rs"]
        .iter()
        .flat_map(|path| settings_in("crate::policy", &text_of(path)))
        .collect();
    assert!(settings.len() > 40, "{} settings", settings.len());
    let missing: Vec<_> = settings.iter().filter(|name| !linked.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "the chapter does not link to {missing:?}");
}

#[test]
fn every_fixed_limit_has_its_place_in_the_chapter_on_defaults() {
    let chapter = include_str!("../../src/guide/defaults.md");
    let limits: Vec<_> = ["src/policy/fixed.rs", "src/policy/storage.rs", "src/transport/fixed.rs"]
        .iter()
        .flat_map(|path| constants_in(&text_of(path)))
        .collect();
    assert!(limits.len() > 60, "{} limits", limits.len());
    let missing: Vec<_> =
        limits.iter().filter(|name| !chapter.contains(&format!("`{name}` ("))).collect();
    assert!(missing.is_empty(), "the chapter has no value of {missing:?}");
}

#[test]
fn the_chapter_on_oauth_2_lists_each_preset_with_its_variables() {
    let chapter = include_str!("../../src/guide/oauth2.md");
    for name in Preset::names() {
        let row = chapter.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("no row of the preset {name}"));
        for variable in Preset::named(name).unwrap().variables().keys() {
            assert!(row.contains(&format!("`{variable}`")), "{name}: {variable}");
        }
    }
}

#[test]
fn every_test_that_the_chapter_on_providers_names_is_there() {
    assert_names_tests(include_str!("guarantees/providers.md"), 30);
}

#[test]
fn every_test_that_the_chapter_on_oauth_2_names_is_there() {
    assert_names_tests(include_str!("guarantees/oauth2.md"), 15);
}

#[test]
fn every_test_that_the_chapter_on_security_names_is_there() {
    assert_names_tests(include_str!("guarantees/security.md"), 30);
}

#[test]
fn every_test_that_the_chapters_on_semantics_and_testing_name_is_there() {
    // The published package has no such folder.
    if Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live").is_dir() {
        assert_names_tests(include_str!("guarantees/semantics.md"), 20);
        assert_names_tests(include_str!("guarantees/testing.md"), 30);
    }
}

/// All tests that a chapter names are there, and it names more than so many.
#[track_caller]
fn assert_names_tests(chapter: &str, least: usize) {
    let named: Vec<_> = chapter.split('`').filter_map(test_name).collect();
    assert!(named.len() > least, "{} tests are named", named.len());
    let paths = ["src", "tests"].iter().flat_map(|folder| source_text::below(folder, "rs"));
    let sources: String = paths.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let missing: Vec<_> =
        named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no test is called {missing:?}");
}

/// `file::a_sentence_as_a_name` names a test.
fn test_name(code: &str) -> Option<&str> {
    let (module, name) = code.split_once("::")?;
    let plain =
        |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
    (plain(module) && plain(name) && name.matches('_').count() > 3).then_some(name)
}

/// The targets of the link definitions at the end of a chapter whose links are in its text.
fn linked(chapter: &str) -> Vec<&str> {
    let definitions = chapter.lines().filter_map(|line| line.split_once("]: "));
    let used = definitions.filter(|(label, _)| chapter.matches(&format!("{label}]")).count() > 1);
    used.map(|(_, target)| target).collect()
}

fn text_of(path: &str) -> String {
    let files = source_text::files();
    files.into_iter().find(|file| file.path == path).expect(path).text
}

/// The names of the public constants.
fn constants_in(text: &str) -> Vec<String> {
    let blanked = source_text::blank(text);
    let constants = blanked.lines().filter_map(|line| line.strip_prefix("pub const "));
    constants.filter_map(word).map(str::to_owned).collect()
}

/// The paths of the public fields of structs.
fn settings_in(module: &str, text: &str) -> Vec<String> {
    let mut settings = Vec::new();
    let mut of = String::new();
    for line in source_text::blank(text).lines() {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(word) {
            of = format!("{module}::{name}");
        } else if let Some((name, _)) =
            line.strip_prefix("    pub ").and_then(|field| field.split_once(':'))
            && !name.contains(' ')
        {
            settings.push(format!("{of}::{name}"));
        }
    }
    settings
}

fn word(text: &str) -> Option<&str> {
    source_text::words(text).next()
}

/// Line and name of the public functions that give a future and lack a section in their docs. In a
/// public trait every function is public.
fn without_section(text: &str, section: &str) -> Vec<(usize, String)> {
    let blanked = source_text::blank(text);
    let code: Vec<_> = blanked.lines().collect();
    let lines: Vec<_> = text.lines().collect();
    let mut silent = Vec::new();
    let mut public_trait: Option<i64> = None;
    let mut depth = 0;
    for (at, line) in code.iter().enumerate() {
        if public_trait.is_none() && is_public_trait(line) {
            public_trait = Some(depth);
        }
        if let Some(name) = public_function(line, public_trait.is_some()) {
            let silences = gives_future(&code[at..]) && !docs_above(&lines[..at]).contains(section);
            silent.extend(silences.then(|| (at + 1, name.to_owned())));
        }
        depth += braces(line);
        // The trait ends when its depth is reached again, not on the line that opens it.
        let closes = line.contains('}') && public_trait.is_some_and(|outside| depth <= outside);
        public_trait = public_trait.filter(|_| !closes);
    }
    silent
}

fn is_public_trait(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("pub") && words.find(|word| *word != "unsafe") == Some("trait")
}

/// The name of the function that a line declares, if it is public.
fn public_function(line: &str, in_public_trait: bool) -> Option<&str> {
    let line = line.trim_start();
    let declaration = line.strip_prefix("pub ").or(in_public_trait.then_some(line))?;
    let qualifiers = ["const ", "async ", "unsafe "];
    let name =
        qualifiers.iter().fold(declaration, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    let name = name.strip_prefix("fn ")?;
    name.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

/// Whether the declaration that begins here is `async` or returns something called a future.
fn gives_future(code: &[&str]) -> bool {
    let text = code.join("\n");
    let declaration = text.split(['{', ';']).next().unwrap_or("");
    let (head, result) = declaration.split_once("->").unwrap_or((declaration, ""));
    let is_async = head.split_whitespace().take_while(|word| *word != "fn").any(|w| w == "async");
    is_async || ["impl Future", "dyn Future", "BoxFuture"].iter().any(|name| result.contains(name))
}

/// The doc comment above a declaration; attributes between them are skipped.
fn docs_above(lines: &[&str]) -> String {
    let mut docs = Vec::new();
    let mut in_attribute = false;
    for line in lines.iter().rev().map(|line| line.trim()) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if in_attribute || line.starts_with("#[") || line.ends_with(")]") {
            in_attribute = !line.starts_with("#[");
        } else {
            break;
        }
    }
    docs.reverse();
    docs.join("\n")
}

fn braces(line: &str) -> i64 {
    line.chars().map(|c| i64::from(c == '{') - i64::from(c == '}')).sum()
}

/// The versions that dependency lines of a README ask for.
fn stated_versions(readme: &str) -> Vec<String> {
    let dependencies = readme.lines().filter_map(|line| {
        let value = line.trim().strip_prefix(env!("CARGO_PKG_NAME"))?.trim_start();
        let value = value.strip_prefix('=')?.trim_start();
        let value = value.split_once("version").map_or(value, |(_, version)| version);
        value.split('"').nth(1)
    });
    let added = readme.split(concat!("cargo add ", env!("CARGO_PKG_NAME"), "@")).skip(1);
    let added = added.filter_map(|rest| rest.split(|c: char| c.is_whitespace() || c == '`').next());
    dependencies.chain(added).map(str::to_owned).collect()
}

/// Whether a stated version is that of this crate up to its minor part.
fn covers(stated: &str, ours: &str) -> bool {
    let minor = |version: &str| version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    minor(stated) == minor(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &str = "# Cancel safety";

    fn silent(text: &str) -> Vec<String> {
        without_section(text, SECTION).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn public_functions_that_give_a_future_need_the_section() {
        let text = "impl A {\n    /// Does it.\n    #[must_use]\n    pub async fn one(&self) {}\n\n    \
                    pub fn two(\n        &self,\n    ) -> impl Future<Output = ()> {\n    }\n}";
        assert_eq!(without_section(text, SECTION), [(4, "one".to_owned()), (6, "two".to_owned())]);
    }

    #[test]
    fn the_section_is_found_above_attributes_of_any_length() {
        let text = "/// Does it.\n///\n/// # Cancel safety\n///\n/// It is.\n#[must_use]\n\
                    #[expect(\n    lint,\n    reason = \"x\"\n)]\npub async fn one() {}";
        assert_eq!(silent(text), [""; 0]);
    }

    #[test]
    fn a_section_of_the_function_before_does_not_count() {
        let text = "/// # Cancel safety\npub async fn one() {}\npub async fn two() {}";
        assert_eq!(silent(text), ["two"]);
    }

    #[test]
    fn functions_of_public_traits_are_public() {
        let text = "pub trait A {\n    async fn one(&self);\n    fn two(&self) -> BoxFuture<()>;\n    \
                    fn three(&self) {\n    }\n    async fn four(&self) {}\n}\ntrait B {\n    \
                    async fn five(&self);\n}\nimpl A for C {\n    async fn one(&self) {}\n}";
        assert_eq!(silent(text), ["one", "two", "four"]);
    }

    #[test]
    fn what_is_private_or_gives_no_future_needs_none() {
        let text = "pub(crate) async fn one() {}\nasync fn two() {}\npub fn three(f: impl Future) {}\n\
                    pub fn four() { async fn five() {} }\n/// pub async fn six() {}\n";
        assert_eq!(silent(text), [""; 0]);
    }

    #[test]
    fn limits_are_constants_and_settings_are_fields() {
        let text = "pub const ONE: u8 = 1;\npub struct A {\n    pub two: u8,\n    three: u8,\n}\n\
                    impl A {\n    pub fn four(five: u8) {}\n}\npub struct B;";
        assert_eq!(constants_in(text), ["ONE"]);
        assert_eq!(settings_in("crate::policy", text), ["crate::policy::A::two"]);
    }

    #[test]
    fn a_link_counts_only_if_it_is_defined_and_in_the_text() {
        let chapter = "See [`one`] and [`three`].\n\n[`one`]: crate::one\n[`two`]: crate::two\n";
        assert_eq!(linked(chapter), ["crate::one"]);
    }

    #[test]
    fn versions_are_read_from_every_form_of_dependency() {
        let readme = "    session-warden = \"0.1\"\nsession-warden = { features = [\"x\"], version = \
                      \"1.2.3\" }\n`cargo add session-warden@0.9`\nsession-warden is small";
        assert_eq!(stated_versions(readme), ["0.1", "1.2.3", "0.9"]);
    }

    #[test]
    fn a_stated_version_is_held_to_its_minor_part() {
        assert!(covers("0.1", "0.1.7"));
        assert!(covers("0.1.0", "0.1.7"));
        assert!(!covers("0.1", "0.2.0"));
        assert!(!covers("0", "0.1.0"));
    }
}
