//! No two files import each other in a loop, so that each can be read after those it imports. A
//! module and the files below it count as one here: a child may use its parent's types.

use std::collections::{BTreeMap, BTreeSet};

use crate::source_text::{self, File, Found, Root};

/// For each module, the modules that its file imports.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn no_files_import_each_other_in_a_loop() {
    let circles = circles(&imports(&source_text::files()));
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

fn imports(files: &[File]) -> Imports {
    let paths = |file: &File| {
        let all = source_text::paths(&file.module, &file.text);
        all.into_iter().filter(|found| found.root == Root::Crate).collect::<Vec<_>>()
    };
    let paths: BTreeMap<_, _> =
        files.iter().map(|file| (file.module.clone(), paths(file))).collect();
    let of = |(module, used): (&Vec<String>, &Vec<Found>)| {
        let imported = used.iter().filter_map(|found| home(&paths, &found.path));
        let imported =
            imported.filter(|other| !other.starts_with(module) && !module.starts_with(other));
        (module.clone(), imported.collect())
    };
    paths.iter().map(of).collect()
}

/// The module in whose file the item at `path` stands. Where a parent passes the item on, that is
/// the child that has it.
fn home(paths: &BTreeMap<Vec<String>, Vec<Found>>, path: &[String]) -> Option<Vec<String>> {
    let module = (1..=path.len()).rev().map(|end| path[..end].to_vec());
    let module = module.into_iter().find(|module| paths.contains_key(module))?;
    let Some(name) = path.get(module.len()) else { return Some(module) };
    let passed_on = |found: &&Found| {
        let below = found.path.starts_with(&module) && found.path.len() > module.len() + 1;
        below && found.path.last() == Some(name)
    };
    let passed_on = paths[&module].iter().find(passed_on);
    passed_on.map_or(Some(module), |found| home(paths, &found.path))
}

/// The loops, each by the modules in it.
fn circles(imports: &Imports) -> Vec<String> {
    let mut circles = BTreeSet::new();
    for module in imports.keys() {
        let reached = reached_from(imports, module);
        if reached.contains(module) {
            let back = |other: &&&Vec<String>| reached_from(imports, other).contains(module);
            let members = reached.iter().filter(back).map(|member| member.join("::"));
            circles.insert(members.collect::<Vec<_>>().join(", "));
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'i>(imports: &'i Imports, module: &[String]) -> BTreeSet<&'i Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = imports.get(module).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).to_owned(),
                module: source_text::module(path),
                text: (*text).to_owned(),
            })
            .collect();
        circles(&imports(&files))
    }

    #[test]
    fn a_loop_of_files_is_found_also_through_what_a_parent_passes_on() {
        let loop_of_two = [
            ("src/a.rs", "use crate::b::B;"),
            ("src/b.rs", "use crate::a::A;"),
            ("src/c.rs", "use crate::a::A;"),
        ];
        assert_eq!(circles_of(&loop_of_two), ["a, b"]);
        let through_a_parent = [
            ("src/a.rs", "mod x;\nmod y;\npub use self::x::X;"),
            ("src/a/x.rs", "use super::y::Y;"),
            ("src/a/y.rs", "use crate::a::X;"),
        ];
        assert_eq!(circles_of(&through_a_parent), ["a::x, a::y"]);
    }

    #[test]
    fn a_child_that_uses_its_parent_is_no_circle() {
        let files = [("src/a.rs", "mod x;\nuse self::x::X;"), ("src/a/x.rs", "use super::A;")];
        assert_eq!(circles_of(&files), [""; 0]);
    }
}
