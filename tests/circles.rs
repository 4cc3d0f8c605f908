//! Finds circles between the files of a crate: files that use each other, directly or over other files.
//!
//! It reads the text alone: `use` items, and paths that begin with `crate`, `super`, `self` or a child module. A name
//! that a module re-exports leads to the file that holds it, and a re-export is no use: a `mod.rs` that only declares
//! and re-exports its children stands in no circle. Code under `#[cfg(test)]`, files named `tests.rs` and folders named
//! `tests` do not count. Macros are not expanded, and `pub use x::*` is not followed.

use std::collections::{BTreeMap, BTreeSet};

type Module = Vec<String>;

/// One file as its text shows it.
struct File {
    name: String,
    /// The names it re-exports, each with its path from the crate's root.
    reexports: BTreeMap<String, Module>,
    /// What its code uses, as paths from the crate's root.
    uses: Vec<Module>,
}

/// The circles among the files of a crate, given by path within `src` and text. Each says which file uses which.
#[must_use]
pub fn circles(sources: &[(String, String)]) -> Vec<String> {
    // `main.rs` is the root of another crate, which names the library from outside.
    let counted = || sources.iter().filter(|(path, _)| path != "main.rs" && !is_test(path));
    let modules: BTreeSet<Module> = counted().map(|(path, _)| module_of(path)).collect();
    let parsed = counted().map(|(path, text)| (module_of(path), parse(path, text, &modules)));
    let files: BTreeMap<Module, File> = parsed.collect();
    let uses: BTreeMap<&Module, BTreeSet<&Module>> = files
        .iter()
        .map(|(module, file)| {
            let used = file.uses.iter().filter_map(|path| resolve(path, &files, 0));
            (module, used.filter(|used| *used != module).collect())
        })
        .collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        files.keys().map(|module| (module, reachable(module, &uses))).collect();
    let mut circles: Vec<Vec<&Module>> = Vec::new();
    for (module, others) in &reached {
        let is_known = circles.iter().any(|circle| circle.contains(module));
        if !is_known && others.contains(module) {
            circles.push(others.iter().copied().filter(|other| reached[other].contains(module)).collect());
        }
    }
    let describe = |circle: &Vec<&Module>| {
        let line = |module: &&Module| {
            let used = uses[module].iter().filter(|used| circle.contains(used));
            let names: Vec<&str> = used.map(|used| files[*used].name.as_str()).collect();
            format!("{} -> {}", files[*module].name, names.join(", "))
        };
        circle.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    circles.iter().map(describe).collect()
}

/// Whether a file, by its path within `src`, is compiled for tests alone.
#[must_use]
pub fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    module.pop_if(|last| last == "mod" || last == "lib");
    module
}

/// Everything that can be reached from `module`, which is part of it only where a circle leads back.
fn reachable<'a>(module: &Module, uses: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Module> = uses[module].iter().copied().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&uses[next]);
        }
    }
    found
}

/// The file that holds what `path` names, found through at most six re-exports.
fn resolve<'a>(path: &[String], files: &'a BTreeMap<Module, File>, depth: usize) -> Option<&'a Module> {
    let n = (0..=path.len()).rev().find(|n| files.contains_key(&path[..*n]))?;
    let (module, file) = files.get_key_value(&path[..n])?;
    if let Some(target) = path.get(n).and_then(|name| file.reexports.get(name))
        && depth < 6
    {
        return resolve(&[target, &path[n + 1..]].concat(), files, depth + 1);
    }
    Some(module)
}

fn parse(path: &str, text: &str, modules: &BTreeSet<Module>) -> File {
    let mut file = File { name: path.to_owned(), reexports: BTreeMap::new(), uses: Vec::new() };
    let module = module_of(path);
    let tokens = without_tests(&tokens(text));
    let mut at = 0;
    while at < tokens.len() {
        let before = &tokens[..at];
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            let n = tokens[at..].iter().position(|token| *token == ";").unwrap_or(tokens.len() - at);
            let mut leaves = Vec::new();
            add_leaves(&tokens[at + 1..at + n], &[], &mut leaves);
            for (name, path) in leaves {
                match from_root(&path, &module, modules) {
                    Some(path) if is_public(before) => drop(file.reexports.insert(name, path)),
                    Some(path) => file.uses.push(path),
                    None => {}
                }
            }
            at += n;
            continue;
        }
        let mut path = vec![tokens[at].to_owned()];
        let is_start =
            is_word(tokens[at]) && before.last() != Some(&"::") && !before.ends_with(&["pub", "(", "in"]);
        while is_start
            && tokens.get(at + 1) == Some(&"::")
            && tokens.get(at + 2).is_some_and(|next| is_word(next))
        {
            path.push(tokens[at + 2].to_owned());
            at += 2;
        }
        if path.len() > 1 {
            file.uses.extend(from_root(&path, &module, modules));
        }
        at += 1;
    }
    file
}

/// Whether the item after these tokens is `pub`, or `pub(…)`.
fn is_public(before: &[&str]) -> bool {
    let open = before.iter().rposition(|token| *token == "(").unwrap_or(0);
    match before.last() {
        Some(&")") => before[..open].ends_with(&["pub"]),
        last => last == Some(&"pub"),
    }
}

/// A path as the crate's root sees it; none where it leads to another crate or to a local name.
fn from_root(path: &[String], module: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let n_up = path.iter().take_while(|part| *part == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => Some([&module[..module.len().checked_sub(n_up)?], &path[n_up..]].concat()),
        "self" => Some([module, &path[1..]].concat()),
        _ => modules.contains(&[module, &path[..1]].concat()).then(|| [module, path].concat()),
    }
}

/// Adds each path of a tree such as `a::{b, c as d}`, with the name it has from there on.
fn add_leaves(tree: &[&str], prefix: &[String], leaves: &mut Vec<(String, Module)>) {
    let n_head = tree.iter().position(|token| ["{", "as"].contains(token)).unwrap_or(tree.len());
    let mut path = prefix.to_vec();
    path.extend(tree[..n_head].iter().filter(|token| **token != "::").map(|token| (*token).to_owned()));
    if tree.get(n_head) == Some(&"{") {
        let body = &tree[n_head + 1..tree.len() - 1];
        let mut depth = 0;
        let branches = body.split(|token| {
            depth += i32::from(*token == "{") - i32::from(*token == "}");
            *token == "," && depth == 0
        });
        branches.filter(|branch| !branch.is_empty()).for_each(|branch| add_leaves(branch, &path, leaves));
        return;
    }
    if path.len() > 1 {
        path.pop_if(|last| last == "self");
    }
    let name = tree.get(n_head + 1).map_or_else(|| path.last().cloned(), |name| Some((*name).to_owned()));
    leaves.extend(name.map(|name| (name, path)));
}

/// The tokens without the items that stand under `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        let is_skipped = rest.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"])
            || rest.starts_with(&["#", "[", "cfg", "(", "all", "(", "test", ","]);
        if !is_skipped {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        // The item ends with a `;` or a `}` that stands in no bracket, or where what it stands in ends.
        let mut depth = 0;
        while at < tokens.len() {
            match tokens[at] {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && [";", "}"].contains(&tokens[at - 1]) {
                break;
            }
        }
    }
    kept
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// Words, `::` and single signs; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (n_bytes, is_token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), false)
        } else if let Some(n_bytes) = literal_bytes(rest) {
            (n_bytes, false)
        } else if is_word(rest) {
            (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (token, after) = rest.split_at(n_bytes);
        tokens.extend(is_token.then_some(token));
        rest = after;
    }
    tokens
}

/// The bytes of the string or the character that the text begins with; none where it begins with neither.
fn literal_bytes(text: &str) -> Option<usize> {
    if let Some(inside) = text.strip_prefix('\'') {
        let first = inside.chars().next()?;
        if first == '\\' {
            // The character after the backslash may be a quote itself.
            return Some(3 + text.get(3..)?.find('\'')? + 1);
        }
        // Where no quote follows it is a lifetime.
        return inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2);
    }
    let unprefixed = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = &text[..text.len() - unprefixed.len()];
    let n_hashes = unprefixed.len() - unprefixed.trim_start_matches('#').len();
    let inside = unprefixed[n_hashes..].strip_prefix('"')?;
    let n_before = text.len() - inside.len();
    if prefix.contains('r') {
        let end = format!("\"{}", "#".repeat(n_hashes));
        return Some(n_before + inside.find(&end)? + end.len());
    }
    let mut is_escaped = false;
    let end = inside.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })?;
    Some(n_before + end + 1)
}

#[cfg(test)]
mod tests {
    use super::circles;

    fn check(sources: &[(&str, &str)], expected: &[&str]) {
        let owned: Vec<_> =
            sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(circles(&owned), expected);
    }

    #[test]
    fn files_that_use_each_other_are_a_circle() {
        check(
            &[("a.rs", "use crate::b::B;"), ("b.rs", "fn f() { crate::a::f(); }")],
            &["a.rs -> b.rs\nb.rs -> a.rs"],
        );
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", "use std::fmt;")], &[]);
        let three =
            [("a.rs", "use super::b;"), ("b.rs", "use crate::c::{X, Y as Z};"), ("c.rs", "use crate::a::*;")];
        check(&three, &["a.rs -> b.rs\nb.rs -> c.rs\nc.rs -> a.rs"]);
    }

    #[test]
    fn two_circles_are_told_apart_and_a_file_that_only_uses_them_is_in_neither() {
        let sources = [
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::A; use crate::c::C;"),
            ("c.rs", "use crate::d::D;"),
            ("d.rs", "use crate::c::C;"),
            ("e.rs", "use crate::{a::A, c::C};"),
        ];
        check(&sources, &["a.rs -> b.rs\nb.rs -> a.rs", "c.rs -> d.rs\nd.rs -> c.rs"]);
    }

    #[test]
    fn a_parent_that_only_reexports_is_in_no_circle_and_one_that_uses_its_child_is() {
        let children = [("room/x.rs", "use super::Y;"), ("room/y.rs", "pub struct Y;")];
        let check = |parent, expected: &[&str]| {
            check(&[&[("room/mod.rs", parent)], &children[..]].concat(), expected)
        };
        check("mod x; mod y; pub use x::X; pub(crate) use y::Y;", &[]);
        // `Y` is the parent's own here.
        check("mod x; pub struct Y; pub use x::X;", &[]);
        check("mod x; pub struct Y; use x::X;", &["room/mod.rs -> room/x.rs\nroom/x.rs -> room/mod.rs"]);
        check(
            "mod x; pub struct Y; fn f() { x::g() }",
            &["room/mod.rs -> room/x.rs\nroom/x.rs -> room/mod.rs"],
        );
        check(
            "mod x; pub struct Y; fn f() { self::x::g() }",
            &["room/mod.rs -> room/x.rs\nroom/x.rs -> room/mod.rs"],
        );
    }

    #[test]
    fn a_reexported_name_leads_to_the_file_that_holds_it() {
        let sources = [
            ("lib.rs", "pub mod a; mod room; pub use room::{Renamed as C, self};"),
            ("room/mod.rs", "mod inner; pub use inner::Inner as Renamed;"),
            ("room/inner.rs", "use crate::a::A;"),
            ("a.rs", "use crate::C;"),
        ];
        check(&sources, &["a.rs -> room/inner.rs\nroom/inner.rs -> a.rs"]);
    }

    #[test]
    fn tests_comments_and_strings_do_not_count() {
        let back = "
            // use crate::a::A;
            /* crate::a::f(); */
            const S: &str = \"crate::a::f() \\\" crate::a::f()\"; const R: &str = r#\"crate::a \" crate::a::f()\"#;
            fn f<'a>(c: &'a char) { c == '\"' || c == '\\'' || c == '\\\\'; /* \" */ }
            #[cfg(test)] use crate::a::A;
            #[cfg(test)] #[path = \"x.rs\"] mod inside { fn f() { crate::a::f() } }
            pub(in crate::a) fn g() -> impl Sized + use<> {}";
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", back)], &[]);
        check(
            &[("a.rs", "use crate::b::B;"), ("b.rs", &format!("{back} use crate::a::A;"))],
            &["a.rs -> b.rs\nb.rs -> a.rs"],
        );
        check(
            &[
                ("a.rs", "use crate::tests::T;"),
                ("tests.rs", "use crate::a;"),
                ("tests/x.rs", "use crate::a;"),
            ],
            &[],
        );
    }
}
