//! Which file of a crate takes names from which: every path of the code, resolved to the file that defines what it names.

use std::collections::{BTreeMap, BTreeSet};

/// A file takes a name from another: the files' places, and the path that does.
pub type Edges = BTreeMap<usize, BTreeMap<usize, String>>;

/// The files of a crate, and their modules.
pub struct FileGraph {
    files: Vec<File>,
    /// Modules by their path, and the file of each.
    modules: BTreeMap<Vec<String>, usize>,
}

struct File {
    name: String,
    /// The module that it is.
    module: Vec<String>,
    /// The root that `crate` names in it.
    root: Vec<String>,
    /// What `use` binds: names, the paths that they stand for, and whether others may see them.
    imports: Vec<Import>,
    /// Paths in the rest of the code.
    paths: Vec<Vec<String>>,
    /// Names there that stand alone.
    words: BTreeSet<String>,
}

struct Import {
    name: String,
    path: Vec<String>,
    is_public: bool,
}

impl FileGraph {
    /// Of these files: names below `src/`, and their texts.
    pub fn new(sources: &[(String, String)]) -> FileGraph {
        let files: Vec<File> = sources.iter().map(|(name, text)| File::new(name, text)).collect();
        let modules = files.iter().enumerate().filter(|(_, file)| file.name != "main.rs");
        let modules = modules.map(|(index, file)| (file.module.clone(), index)).collect();
        FileGraph { files, modules }
    }

    /// All groups of files that take names from each other, directly or by way of others of the group.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|file| reach(&edges, file)).collect();
        let mut circles = BTreeSet::new();
        for file in 0..self.files.len() {
            let circle: BTreeSet<usize> =
                reached[file].iter().copied().filter(|&other| reached[other].contains(&file)).collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.iter().map(|circle| circle.iter().map(|&file| self.files[file].name.clone()).collect()).collect()
    }

    /// The paths by which the files of a circle take names from each other, a line each.
    pub fn paths_within(&self, circle: &[String]) -> Vec<String> {
        let is_in = |file: usize| circle.contains(&self.files[file].name);
        let edges = self.edges();
        let inner = edges.iter().filter(|(from, _)| is_in(**from));
        let inner = inner.flat_map(|(from, to)| to.iter().map(move |(to, path)| (*from, *to, path)));
        let inner = inner.filter(|(_, to, _)| is_in(*to));
        inner
            .map(|(from, to, path)| format!("{} takes {path} from {}", self.files[from].name, self.files[to].name))
            .collect()
    }

    /// Which file takes names from which, by their places, and a path by which it does.
    pub fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (index, file) in self.files.iter().enumerate() {
            let reexports =
                self.modules.keys().any(|module| module.len() > file.module.len() && module.starts_with(&file.module));
            // A folder's module passes names on; those that its own code uses, it takes.
            let passes_on = |import: &Import| reexports && import.is_public && !file.words.contains(&import.name);
            let imports = file.imports.iter().filter(|import| !passes_on(import));
            for path in imports.map(|import| &import.path).chain(&file.paths) {
                if let Some(target) = self.resolve(index, path, 0).filter(|&target| target != index) {
                    edges.entry(index).or_default().entry(target).or_insert_with(|| path.join("::"));
                }
            }
        }
        edges
    }

    /// The file that defines what `path` names in a file; none for other crates, for a folder's module itself, and for what is local.
    fn resolve(&self, file: usize, path: &[String], depth: usize) -> Option<usize> {
        if depth > 16 {
            return None;
        }
        let at = &self.files[file];
        let (mut module, rest) = match path[0].as_str() {
            "crate" => (at.root.clone(), &path[1..]),
            "self" => (at.module.clone(), &path[1..]),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                (at.module[..at.module.len().checked_sub(supers)?].to_vec(), &path[supers..])
            }
            first => {
                let mut child = at.module.clone();
                child.push(first.to_owned());
                if self.modules.contains_key(&child) {
                    (child, &path[1..])
                } else {
                    // A name that is imported itself, of which the import tells.
                    let import = at.imports.iter().find(|import| import.name == first).filter(|_| path.len() > 1)?;
                    let whole: Vec<String> = import.path.iter().chain(&path[1..]).cloned().collect();
                    return self.resolve(file, &whole, depth + 1);
                }
            }
        };
        for (index, part) in rest.iter().enumerate() {
            let owner = self.modules.get(&module).copied();
            module.push(part.clone());
            if self.modules.contains_key(&module) {
                continue;
            }
            let owner = owner?;
            let import = self.files[owner].imports.iter().find(|import| import.name == *part);
            return match import {
                Some(import) => {
                    let whole: Vec<String> = import.path.iter().chain(&rest[index + 1..]).cloned().collect();
                    self.resolve(owner, &whole, depth + 1)
                }
                None => Some(owner),
            };
        }
        // A module. What is taken from a folder's stands in paths of its own.
        let is_folder = self.modules.keys().any(|other| other.len() > module.len() && other.starts_with(&module));
        self.modules.get(&module).copied().filter(|_| !is_folder)
    }
}

/// All files that can be reached from one by at least one edge.
fn reach(edges: &Edges, from: usize) -> BTreeSet<usize> {
    let (mut found, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(file) = left.pop() {
        for &next in edges.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next) {
                left.push(next);
            }
        }
    }
    found
}

impl File {
    fn new(name: &str, text: &str) -> File {
        let mut module: Vec<String> = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        // The kernels are a crate of their own.
        let root = if module.first().is_some_and(|first| first == "kernels") {
            vec!["kernels".to_owned()]
        } else {
            Vec::new()
        };
        let tokens = without_tests(&tokens(text));
        let mut file = File {
            name: name.to_owned(),
            module,
            root,
            imports: Vec::new(),
            paths: Vec::new(),
            words: BTreeSet::new(),
        };
        file.read(&tokens);
        file
    }

    fn read(&mut self, tokens: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                let is_public = at > 0
                    && (tokens[at - 1] == "pub"
                        || (tokens[at - 1] == ")" && tokens[..at].iter().rev().take(8).any(|t| t == "pub")));
                at = self.read_tree(tokens, at + 1, Vec::new(), is_public);
                continue;
            }
            let mut path = Vec::new();
            let before = at.checked_sub(1).map(|before| tokens[before].as_str());
            while at < tokens.len() && is_name(&tokens[at]) {
                path.push(tokens[at].clone());
                at += 1;
                if tokens.get(at).is_some_and(|token| token == "::")
                    && tokens.get(at + 1).is_some_and(|next| is_name(next))
                {
                    at += 1;
                } else {
                    break;
                }
            }
            match path.len() {
                0 => at += 1,
                // After `>::` or `.`, a name is not the first of a path.
                _ if matches!(before, Some("::" | ".")) => {}
                // What is defined here under such a name is another thing.
                1 if matches!(before, Some("fn" | "mod")) => {}
                1 => self.words.extend(path),
                _ => {
                    self.words.insert(path[0].clone());
                    self.paths.push(path);
                }
            }
        }
    }

    /// Reads a tree of `use` from `at` on: its names go to the imports. The place behind it.
    fn read_tree(&mut self, tokens: &[String], mut at: usize, mut path: Vec<String>, is_public: bool) -> usize {
        loop {
            match tokens[at].as_str() {
                "{" => {
                    at += 1;
                    while tokens[at] != "}" {
                        at = self.read_tree(tokens, at, path.clone(), is_public);
                        at += usize::from(tokens[at] == ",");
                    }
                    return at + 1;
                }
                "*" => {
                    self.imports.push(Import { name: "*".to_owned(), path, is_public });
                    return at + 1;
                }
                "::" => at += 1,
                part if is_name(part) => {
                    // `self` in braces is what stands before them.
                    if part != "self" || path.is_empty() {
                        path.push(part.to_owned());
                    }
                    at += 1;
                    if tokens[at] == "as" {
                        let name = tokens[at + 1].clone();
                        self.imports.push(Import { name, path, is_public });
                        return at + 2;
                    }
                    if tokens[at] != "::" {
                        let name = path.last().cloned().unwrap_or_default();
                        self.imports.push(Import { name, path, is_public });
                        return at;
                    }
                }
                _ => return at + 1,
            }
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && !["use", "as"].contains(&token)
}

/// Names, `::`, and single signs; no comments, texts, characters or numbers.
fn tokens(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = text_length(rest) {
            length
        } else if rest.starts_with("::") {
            found.push("::".to_owned());
            2
        } else if first.is_numeric() {
            rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())
        } else if is_word(first) {
            let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            found.push(rest[..length].to_owned());
            length
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// The length of the text, the character or the lifetime that stands first, if one does.
fn text_length(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c: char| !"bcr".contains(c)).filter(|&prefix| prefix <= 2)?;
    let (before, behind) = rest.split_at(prefix);
    let hashes = if before.contains('r') { behind.len() - behind.trim_start_matches('#').len() } else { 0 };
    let start = prefix + hashes + 1;
    let quoted = &behind[hashes..];
    if let Some(text) = quoted.strip_prefix('"') {
        if before.contains('r') {
            let end = format!("\"{}", "#".repeat(hashes));
            return text.find(&end).map(|at| start + at + end.len());
        }
        return Some(start + closed(text, '"')?);
    }
    let text = quoted.strip_prefix('\'').filter(|_| hashes == 0 && prefix <= 1)?;
    let mut chars = text.chars();
    let (first, second) = (chars.next()?, chars.next()?);
    if first == '\\' || second == '\'' {
        return Some(start + closed(text, '\'')?);
    }
    // A lifetime.
    (prefix == 0).then(|| 1 + text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// How far the text reaches that ends with `end`, which may be escaped in it.
fn closed(text: &str, end: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The tokens but for items behind `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].iter().take(7).eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = end_of_item(tokens, at + 7);
        } else {
            found.push(tokens[at].clone());
            at += 1;
        }
    }
    found
}

/// The place behind the item that begins at `at`.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0
            && (tokens[at - 1] == ";" || (tokens[at - 1] == "}" && tokens.get(at).is_none_or(|next| next != ";")))
        {
            break;
        }
    }
    at
}
