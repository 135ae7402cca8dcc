use super::*;

/// As the data source `cloudinit_config` of HashiCorp's provider writes it, line ends included.
const CLOUDINIT_CONFIG: &str = "Content-Type: multipart/mixed; boundary=\"MIMEBOUNDARY\"\nMIME-Version: 1.0\r\n\r\n\
    --MIMEBOUNDARY\r\nContent-Disposition: attachment; filename=\"one.yaml\"\r\nContent-Transfer-Encoding: 7bit\r\n\
    Content-Type: text/cloud-config\r\nMerge-Type: list(append)\r\n +dict(recurse_array)\r\nMime-Version: 1.0\r\n\r\n\
    #cloud-config\nwrite_files: [{path: /ä}]\r\n--MIMEBOUNDARY\r\nContent-Type: text/x-shellscript\r\n\r\n#!/bin/sh\necho 1\n\
    \r\n--MIMEBOUNDARY--\r\n";

#[test]
fn a_single_document_is_looked_at_by_cloud_init_itself() {
    for text in
        ["#cloud-config\n{}", "#include\nhttps://example.org/a", "## template: jinja\n#cloud-config\n{}", "#!/bin/sh"]
    {
        let all = parts(text);
        assert_eq!(all, [Part::new("text/plain", "", text)]);
        assert_eq!(check(text), Ok(()));
    }
}

#[test]
fn the_parts_of_a_mime_document_become_parts_of_ours() {
    assert_eq!(check(CLOUDINIT_CONFIG), Ok(()));
    let all = parts(CLOUDINIT_CONFIG);
    let [config, script] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(config.body, encoded("#cloud-config\nwrite_files: [{path: /ä}]"));
    assert_eq!(
        config.head,
        "Content-Disposition: attachment; filename=\"one.yaml\"\r\nContent-Type: text/cloud-config\r\n\
         Merge-Type: list(append)\r\n +dict(recurse_array)\r\nMime-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n"
    );
    assert_eq!((script.kind().as_str(), script.body.as_str()), ("text/x-shellscript", "#!/bin/sh\necho 1\n"));
    let text = document(&all);
    assert!(text.is_ascii() && text.matches("--==groundwork-seed==").count() == 3, "{text}");
    assert_eq!(leaves(&text, 0), Ok(all), "what we write, we read");
}

#[test]
fn nested_and_single_part_documents_are_flat_afterwards() {
    let inner =
        "Content-Type: multipart/mixed; boundary=in\n\n--in\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--in--\n";
    let text = format!(
        "From nobody\nContent-Type: multipart/mixed; boundary=\"o;u t\"\nMIME-Version: 1.0\n\npreamble\n--o;u t\n{inner}\n--o;u t\n\n#cloud-config\n{{}}\n--o;u t--\nepilogue\n"
    );
    let kinds: Vec<_> = parts(&text).iter().map(Part::kind).collect();
    assert_eq!(kinds, ["text/x-shellscript", "text/plain"]);
    assert_eq!(check(&text), Ok(()));
    let one = "MIME-Version: 1.0\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n";
    assert_eq!(
        parts(one),
        [Part {
            head: "MIME-Version: 1.0\r\nContent-Type: text/x-shellscript\r\n".to_owned(),
            body: "#!/bin/sh\n".to_owned()
        }]
    );
}

#[test]
fn no_body_ends_at_our_boundary() {
    let script = Part { head: String::new(), body: "--==groundwork-seed==--".to_owned() };
    assert_eq!(leaves(&document(std::slice::from_ref(&script)), 0), Ok(vec![script]));
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let said = check(text).unwrap_err();
    assert!(said.contains(why), "{text}: {said}");
}

#[test]
fn what_cloud_init_would_not_take_is_refused_by_name() {
    refused("packages: [x]", "`#cloud-config`");
    refused("# cloud-config\n{}", "begins with \"# cloud-config\"");
    refused("", "`#!`");
    refused("\u{feff}#cloud-config\n", "byte order mark");
    refused("#upstart-job\n", "#upstart-job");
    refused("H4sIAAAAAAAA/0vOzy0oSi0u1k1OLEksBgCqGZ0xDQAAAA==", "`base64_encode = false`");
    refused("I2Nsb3VkLWNvbmZpZwpwYWNrYWdlczogW25naW54LCBjdXJsXQo=", "base64");
    refused("#!/bin/sh\r\ntrue\r\n", "Windows");
    refused("## template: jinja\n#include\nhttps://example.org", "template");
    refused("## template: jinja\npackages: []", "template");
    refused("Content-Type: multipart/mixed; boundary=a\n\n--a--\n", "`MIME-Version: 1.0`");
    refused("MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--a--\n", "`boundary`");
    refused("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\n", "`--a--`");
    refused("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a--\n", "has none");
    refused("MIME-Version: 1.0\nContent-Type: text/yaml\n\na: b\n", "part 1 is `text/yaml`");
    refused("MIME-Version: 1.0\nContent-Type: text/plain\n\na: b\n", "in part 1");
    refused(&"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\n".repeat(20), "--a--");
}

#[test]
fn nothing_makes_it_fall_over() {
    for text in [
        ":",
        "\n",
        "--",
        "MIME-Version:\n",
        "MIME-Version: \nContent-Type: multipart/;boundary=\"",
        "From \n\n",
        "Content-Type",
    ] {
        drop(check(text));
        drop(document(&parts(text)));
    }
}
