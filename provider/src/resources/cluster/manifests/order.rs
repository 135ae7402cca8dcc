//! Which manifest comes after which, and what does not go together in one.

use super::super::model::Cluster;
use super::Manifests;
use super::model::Manifest;
use super::{at, of as manifests_of};
use tf::{Diagnostic, Path};

/// Names in the order in which manifests are applied: after those that they name, and otherwise by name.
pub(super) fn of(manifests: &Manifests) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    loop {
        let is_next = |(name, manifest): &(&String, &Manifest)| {
            let waits = |other: &String| manifests.contains_key(other) && !done.contains(other);
            !done.contains(name) && !manifest.after.or(Vec::new()).iter().any(waits)
        };
        let Some((name, _)) = manifests.iter().find(is_next) else { return done };
        done.push(name.clone());
    }
}

/// What does not go together.
pub(in super::super) fn problems(m: &Cluster) -> Vec<Diagnostic> {
    let manifests = manifests_of(m);
    let mut found: Vec<Diagnostic> = Vec::new();
    for (name, manifest) in &manifests {
        found.extend(sources(name, manifest));
        found.extend(strangers(name, manifest, &manifests));
        if manifest.once.is_true() && manifest.prune.is_true() {
            let why = "`once` leaves its objects to somebody else, and `prune` would delete them.";
            found.push(problem(name, why, "Leave out one of the two.", at(name).name("prune")));
        }
    }
    found.extend(circle(&manifests));
    found
}

/// One source, with what belongs to it.
fn sources(name: &str, manifest: &Manifest) -> Vec<Diagnostic> {
    let Manifest { content, content_wo, content_wo_version, url, checksum, .. } = manifest;
    let given = [!content.is_null(), !content_wo.is_null(), !url.is_null()];
    // What is not known yet may turn out to be null.
    let open = content.is_unknown() || content_wo.is_unknown() || url.is_unknown();
    let sources = given.into_iter().filter(|given| *given).count();
    let mut found = Vec::new();
    if sources > 1 && !open || sources == 0 {
        let why = if sources == 0 { "Nothing says what its objects are." } else { "It has more than one source." };
        found.push(problem(name, why, "Give one of `content`, `content_wo` and `url`.", at(name)));
    }
    let pairs = [
        ("content_wo", content_wo.is_null(), "content_wo_version", content_wo_version.is_null()),
        ("url", url.is_null(), "checksum", checksum.is_null()),
    ];
    for (one, lacks_one, other, lacks_other) in pairs {
        let (there, lacking) = if lacks_one { (other, one) } else { (one, other) };
        if lacks_one != lacks_other && !open {
            let why = format!("It has `{there}` and no `{lacking}`.");
            found.push(problem(name, &why, &format!("Give `{lacking}`, too."), at(name).name(there)));
        }
    }
    found
}

fn strangers(name: &str, manifest: &Manifest, manifests: &Manifests) -> Vec<Diagnostic> {
    let after = manifest.after.or(Vec::new());
    let strange = after.into_iter().filter(|other| !manifests.contains_key(other));
    let told = |other: String| {
        let why = format!("It comes after {other}, and there is no manifest of that name.");
        problem(name, &why, "Give names of other `manifest` blocks.", at(name).name("after"))
    };
    strange.map(told).collect()
}

/// Manifests that wait for one another.
fn circle(manifests: &Manifests) -> Option<Diagnostic> {
    let ordered = of(manifests);
    let left: Vec<&String> = manifests.keys().filter(|name| !ordered.contains(name)).collect();
    let first = left.first()?;
    let names = left.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let why = format!("Each of these comes after another one of them: {names}.");
    Some(problem(first, &why, "Let one of them come first.", at(first).name("after")))
}

fn problem(name: &str, why: &str, next: &str, at: Path) -> Diagnostic {
    Diagnostic::error(format!("Cannot use manifest {name}")).happened(why).next(next).at(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tf::{Attr, Secret};

    fn all(manifests: &[(&str, Manifest)]) -> Manifests {
        manifests.iter().map(|(name, manifest)| ((*name).to_owned(), manifest.clone())).collect()
    }

    fn after(names: &[&str]) -> Manifest {
        let after = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Manifest { content: "abc".into(), after: after.into(), ..Manifest::default() }
    }

    #[track_caller]
    fn check(manifests: Manifests, wanted: &[&str]) {
        let found = problems(&Cluster { manifest: manifests.into(), ..Cluster::default() });
        let paths: Vec<_> = found.iter().filter_map(Diagnostic::path).map(ToString::to_string).collect();
        assert_eq!(paths, wanted, "{found:?}");
    }

    #[test]
    fn manifests_come_after_those_that_they_name() {
        let manifests = all(&[("a", after(&["c"])), ("b", after(&[])), ("c", after(&["b"])), ("d", after(&["gone"]))]);
        assert_eq!(of(&manifests), ["b", "c", "a", "d"]);
        check(manifests, &[r#"manifest["d"].after"#]);
    }

    #[test]
    fn a_circle_and_a_stranger_are_refused() {
        check(all(&[("a", after(&["b"])), ("b", after(&["a"])), ("c", after(&[]))]), &[r#"manifest["a"].after"#]);
        check(all(&[("a", after(&["a"]))]), &[r#"manifest["a"].after"#]);
        check(all(&[("a", Manifest { after: Attr::Unknown, ..after(&[]) })]), &[]);
    }

    #[test]
    fn a_manifest_has_one_source_and_what_belongs_to_it() {
        let none = Manifest::default;
        let secret = || Attr::Known(Secret::new("abc".to_owned()));
        check(all(&[("a", none())]), &[r#"manifest["a"]"#]);
        check(
            all(&[("a", Manifest { url: "https://a".into(), checksum: "x".into(), ..after(&[]) })]),
            &[r#"manifest["a"]"#],
        );
        check(all(&[("a", Manifest { url: "https://a".into(), ..none() })]), &[r#"manifest["a"].url"#]);
        check(all(&[("a", Manifest { checksum: "x".into(), ..after(&[]) })]), &[r#"manifest["a"].checksum"#]);
        check(all(&[("a", Manifest { content_wo: secret(), ..none() })]), &[r#"manifest["a"].content_wo"#]);
        check(all(&[("a", Manifest { content_wo: secret(), content_wo_version: 1.into(), ..none() })]), &[]);
        check(all(&[("a", Manifest { content: Attr::Unknown, url: Attr::Unknown, ..none() })]), &[]);
        check(
            all(&[("a", Manifest { once: true.into(), prune: true.into(), ..after(&[]) })]),
            &[r#"manifest["a"].prune"#],
        );
    }
}
