//! `clgw policy` from outside: answers, exit codes, JSON, hints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn clgw(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clgw"))
        .args(args)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn run(directory: &Path, args: &[&str]) -> (i32, String, String) {
    let output = clgw(directory, args);
    let code = output.status.code().expect("ended by a signal");
    let (out, err) = (stdout(&output), stderr(&output));
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{args:?}: {out}{err}");
    (code, out, err)
}

/// Runs and expects this exit code and nothing on stderr.
fn answer(directory: &Path, code: i32, args: &[&str]) -> String {
    let (got, out, err) = run(directory, args);
    assert_eq!((got, &*err), (code, ""), "{args:?}: {out}");
    out
}

/// Runs and expects this exit code and nothing on stdout.
fn refusal(directory: &Path, code: i32, args: &[&str]) -> String {
    let (got, out, err) = run(directory, args);
    assert_eq!((got, &*out), (code, ""), "{args:?}: {err}");
    err
}

fn json(directory: &Path, code: i32, args: &[&str]) -> Value {
    serde_json::from_str(&answer(directory, code, args)).unwrap()
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo")
}

/// A site of the demo to write into.
fn copy(site: &str, to: &Path) -> PathBuf {
    let from = demo().join(site);
    fs::create_dir_all(to.join("objects")).unwrap();
    fs::copy(from.join("gateway.yaml"), to.join("gateway.yaml")).unwrap();
    for entry in fs::read_dir(from.join("objects")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join("objects").join(path.file_name().unwrap())).unwrap();
    }
    to.to_owned()
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn check_counts_what_a_site_has() {
    let text = answer(&demo(), 0, &["policy", "check", "site-a"]);
    assert_eq!(
        text,
        "site-a/gateway.yaml: good\n  \
         objects   1 peer, 0 exports, 2 imports, 2 workloads\n  \
         policies  privileged: 1 deny, 0 allow; namespaced: 0 deny, 1 allow; dry-run: 0\n  \
         decisions compiled table and reference evaluator agree: 8 of 8 questions asked\n"
    );
    let document = json(&demo(), 0, &["policy", "check", "site-b/objects", "--json"]);
    assert_eq!(document["summary"]["policies"]["privileged"]["deny"], 1);
    assert_eq!(document["selfCheck"]["asked"], 2);
    assert_eq!((&document["errors"], &document["findings"]), (&0.into(), &Value::Array(vec![])));
}

#[test]
fn check_draws_every_error_of_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let site = copy("site-a", dir.path());
    let policies = site.join("objects/policies.yaml");
    replace(&policies, "action: allow", "action: alow");
    replace(&policies, "workloadSelector: {}", "workloadSelecter: {}");
    replace(&site.join("objects/peers.yaml"), "port: 4443", "port: 0");
    replace(&site.join("gateway.yaml"), "idle: sleep", "idle: snooze");
    let text = refusal(&site, 3, &["policy", "check", "."]);
    assert!(text.ends_with("error: 4 errors found\n"), "{text}");
    let expected = "\
error: spec.action: unknown action `alow`
 --> ./objects/policies.yaml:5:11
  |
5 |   action: alow
  |           ^^^^
  |
  = help: write `action: allow` or `action: deny`
";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("did you mean `workloadSelector`?"), "{text}");

    let document = json(&site, 3, &["policy", "check", ".", "--json"]);
    assert_eq!((&document["errors"], &document["warnings"]), (&4.into(), &0.into()));
    let finding = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["field"] == "spec.action")
        .unwrap();
    assert_eq!(finding["severity"], "error");
    assert!(finding["file"].as_str().unwrap().ends_with("objects/policies.yaml"));
    assert_eq!((&finding["line"], &finding["column"]), (&5.into(), &11.into()));
    assert_eq!(finding["message"], "unknown action `alow`");
    assert_eq!(finding["hint"], "write `action: allow` or `action: deny`");

    let text = refusal(&site, 3, &["policy", "check", "nowhere"]);
    assert!(text.contains("--> nowhere\n"), "{text}");
}

#[test]
fn eval_traces_the_whole_connection() {
    let args = ["policy", "eval", "site-a", "--import", "demo/web", "--client", "10.1.0.2"];
    let text = answer(&demo(), 0, &[&args[..], &["--exporter", "site-b"]].concat());
    let expected = "\
client    demo/client (10.1.0.2)
          namespace=demo, service-account=default, labels.app=client, peer=site-a, peer-labels.site=a
import    demo/web, 1 source, round-robin

source 1  demo/web at site-b
  importer site-a: ALLOW by demo/allow-client
    privileged deny   no match (1 policy)
    allow             demo/allow-client matches and decides: from[0] and to[0]
  exporter site-b: ALLOW by demo/allow-client-of-site-a
    privileged deny   no match (1 policy)
    allow             demo/allow-client-of-site-a matches and decides: from[0] and to[0]

ALLOWED: source 1 (demo/web at site-b) serves; it is the only source
";
    assert_eq!(text, expected);
    let text = answer(&demo(), 0, &args);
    assert!(text.contains("give its objects with --exporter site-b=SITE"), "{text}");
    assert!(text.contains("ALLOWED by the importer: "), "{text}");
}

#[test]
fn eval_of_a_denial_says_what_was_missing() {
    let args = ["policy", "eval", "site-a", "--import", "demo/web", "--client"];
    let text = answer(&demo(), 1, &[&args[..], &["namespace=demo,labels.app=web"]].concat());
    let closest = "closest           demo/allow-client\n                        \
                   from[0] wants client.clusterlink.net/labels.app In [client], but it is \"web\"\n";
    assert!(text.contains(closest), "{text}");
    assert!(text.ends_with("DENIED: its source is refused\n"), "{text}");
    let text = answer(&demo(), 1, &[&args[..], &["labels.x=y", "-v"]].concat());
    assert!(text.contains("no-strangers does not match"), "{text}");
    assert!(text.contains("but it is absent"), "{text}");
    let text = answer(&demo(), 1, &[&args[..], &["10.9.9.9"]].concat());
    assert!(text.contains("unknown: no workload has 10.9.9.9"), "{text}");
    assert!(text.contains("because no-strangers looks at sources"), "{text}");
    // The importer denies; what the exporter would say is told as such.
    let text = answer(&demo(), 1, &[&args[..], &["10.1.0.3", "--exporter", "site-b"]].concat());
    assert!(text.contains("not asked, the importer denies; it would say DENY"), "{text}");
}

#[test]
fn eval_asks_the_exporter_alone() {
    let args = ["policy", "eval", "site-b", "--export", "demo/web", "--client"];
    let client = "namespace=demo,labels.app=client";
    answer(&demo(), 0, &[&args[..], &[client, "--peer", "site-a"]].concat());
    answer(&demo(), 1, &[&args[..], &[client, "--peer", "site-c"]].concat());
    answer(&demo(), 0, &[&args[..], &["peer=site-a,labels.app=client"]].concat());
    let full = "peer.clusterlink.net/name=site-a,client.clusterlink.net/labels.app=client";
    answer(&demo(), 0, &[&args[..], &[full]].concat());
    let text = refusal(&demo(), 2, &[&args[..], &[client]].concat());
    assert!(text.contains("give --peer NAME (there is site-a)"), "{text}");
    let text = refusal(&demo(), 2, &[&args[..], &["10.1.0.2", "--peer", "site-a"]].concat());
    assert!(text.contains("ask the importer"), "{text}");
    let label = ["--peer", "site-a", "--peer-label", "site-a:region=eu"];
    let text = answer(&demo(), 0, &[&args[..], &[client], &label].concat());
    assert!(text.contains("peer-labels.region=eu"), "{text}");
}

#[test]
fn eval_tells_machines_everything() {
    let args =
        ["policy", "eval", "site-a", "--import", "demo/web", "--exporter", "site-b", "--json"];
    let document = json(&demo(), 0, &[&args[..], &["--client", "10.1.0.2"]].concat());
    assert_eq!(document["allowed"], true);
    assert_eq!(document["serving"], 0);
    assert_eq!(document["scheme"], "round-robin");
    assert_eq!(document["client"]["workload"], "demo/client");
    let source = &document["sources"][0];
    assert_eq!(source["decidedBy"], "demo/allow-client-of-site-a");
    let importer = &source["importer"];
    assert_eq!(importer["policy"], "demo/allow-client");
    assert_eq!(importer["stages"][0]["policies"][0]["name"], "no-strangers");
    let unmet = &importer["stages"][0]["policies"][0]["from"]["unmet"][0];
    assert_eq!((&unmet["operator"], &unmet["found"]), (&"In".into(), &"client".into()));
    assert_eq!(importer["stages"][3]["policies"][0]["to"]["element"], 0);
    assert_eq!(importer["to"]["peer.clusterlink.net/labels.site"], "b");
    assert_eq!(source["exporter"]["from"]["peer.clusterlink.net/name"], "site-a");
    let document = json(&demo(), 1, &[&args[..], &["--client", "unknown"]].concat());
    assert_eq!(document["sources"][0]["importer"]["guard"]["because"], "no-strangers");
    assert_eq!(document["client"]["workload"], Value::Null);
}

#[test]
fn eval_says_which_of_several_sources_serves() {
    let dir = tempfile::tempdir().unwrap();
    let site = copy("site-a", dir.path());
    let imports = |scheme: &str| {
        let text = format!(
            "apiVersion: clusterlink.net/v1alpha1\nkind: Import\n\
             metadata: {{name: web, namespace: demo}}\nspec:\n  port: 80\n  lbScheme: {scheme}\n  \
             sources:\n  - {{peer: site-c, exportName: web, exportNamespace: demo}}\n  \
             - {{peer: site-b, exportName: web, exportNamespace: demo}}\n  \
             - {{peer: site-b, exportName: iperf, exportNamespace: demo}}\n  \
             - {{peer: site-b, exportName: none, exportNamespace: demo}}\n"
        );
        fs::write(site.join("objects/imports.yaml"), text).unwrap();
    };
    fs::remove_file(site.join("gateway.yaml")).unwrap();
    let other = demo().join("site-b").display().to_string();
    let args = [
        "policy",
        "eval",
        "objects",
        "--name",
        "site-a",
        "--import",
        "demo/web",
        "--client",
        "10.1.0.2",
        "--exporter",
        &*other,
    ];
    imports("static");
    let text = answer(&site, 0, &args);
    assert!(text.contains("import    demo/web, 4 sources, static\n"), "{text}");
    // The importer's policies allow site-b only.
    assert!(text.contains("to[0] wants peer.clusterlink.net/name In [site-b]"), "{text}");
    assert!(text.contains("  exporter site-b: DENY, it has no export demo/none\n"), "{text}");
    let last = text.lines().last().unwrap();
    let wanted = "source 2 (demo/web at site-b) serves; static takes the first allowed source";
    assert!(last.starts_with("ALLOWED: ") && last.contains(wanted), "{last}");

    imports("round-robin");
    let last = answer(&site, 0, &args).lines().last().unwrap().to_owned();
    assert!(last.contains("gives each of the 2 allowed sources its turn"), "{last}");
    imports("random");
    let last = answer(&site, 0, &args).lines().last().unwrap().to_owned();
    assert!(last.contains("sources 2, 3 serve, as random chooses"), "{last}");
    let document = json(&site, 0, &[&args[..], &["--json"]].concat());
    assert_eq!(document["serving"], Value::Null);

    imports("least-loaded");
    let last = answer(&site, 0, &args).lines().last().unwrap().to_owned();
    assert!(last.contains("sources 2, 3 serve, as least-loaded chooses"), "{last}");
    imports("weighted");
    replace(&site.join("objects/imports.yaml"), "exportName: web,", "exportName: web, weight: 0,");
    let text = answer(&site, 0, &args);
    assert!(text.contains("source 3 (demo/iperf at site-b) serves; it is the only one"), "{text}");
    replace(
        &site.join("objects/imports.yaml"),
        "exportName: iperf",
        "weight: 0, exportName: iperf",
    );
    let text = answer(&site, 1, &args);
    assert!(text.ends_with("DENIED: the sources that are allowed have the weight 0\n"), "{text}");

    let only = [&args[..], &["--peer", "site-c"]].concat();
    let text = answer(&site, 1, &only);
    assert!(text.contains("source 1  demo/web at site-c") && !text.contains("source 2"), "{text}");
}

#[test]
fn eval_refuses_what_does_not_exist_with_the_nearest_name() {
    let eval = |args: &[&str]| refusal(&demo(), 2, &[&["policy", "eval"], args].concat());
    let text = eval(&["site-a", "--import", "demo/wbe", "--client", "unknown"]);
    assert!(text.contains("did you mean `demo/web`?"), "{text}");
    let text = eval(&["site-b", "--export", "demo/x", "--client", "unknown"]);
    assert!(text.contains("it has demo/iperf, demo/web"), "{text}");
    let text = eval(&["site-a", "--import", "demo/web", "--peer", "site-c", "--client", "unknown"]);
    assert!(text.contains("did you mean `site-b`?"), "{text}");
    let text = eval(&["site-a", "--import", "demo/web", "--client", "namespac=demo"]);
    assert!(text.contains("did you mean `namespace`?"), "{text}");
    let text = eval(&["site-a", "--import", "web", "--client", "unknown"]);
    assert!(text.contains("NAMESPACE/NAME"), "{text}");
    let text = eval(&["site-a/objects", "--import", "demo/web", "--client", "unknown"]);
    assert!(text.contains("give --name NAME"), "{text}");
    let text = eval(&["site-a", "--name", "x", "--import", "demo/web", "--client", "unknown"]);
    assert!(text.contains("change them there"), "{text}");
    let text = eval(&[
        "site-a",
        "--import",
        "demo/web",
        "--client",
        "unknown",
        "--exporter",
        "site-b/objects",
    ]);
    assert!(text.contains("write NAME=site-b/objects"), "{text}");
    let text = eval(&["site-a", "--client", "unknown"]);
    assert!(text.contains("--import") && text.contains("--export"), "{text}");
}

#[test]
fn directories_of_objects_get_their_peers_from_flags() {
    let args = [
        "policy",
        "eval",
        "site-a/objects",
        "--name",
        "site-a",
        "--import",
        "demo/web",
        "--client",
        "10.1.0.2",
        "--exporter",
        "site-b=site-b/objects",
    ];
    answer(&demo(), 0, &args);
    let wrong = args.map(|arg| if arg == "site-a" { "site-x" } else { arg });
    assert!(answer(&demo(), 1, &wrong).contains("but it is \"site-x\""));
}

#[test]
fn the_demo_decides_what_its_table_expects() {
    let text = answer(&demo(), 0, &["policy", "test", "policies.test.yaml"]);
    assert!(text.starts_with("ok      the client reaches the web server\n"), "{text}");
    assert!(text.ends_with("7 passed, 0 failed\n"), "{text}");
    let document = json(&demo(), 0, &["policy", "test", "policies.test.yaml", "--json"]);
    assert_eq!((&document["passed"], &document["failed"]), (&7.into(), &0.into()));
    let first = &document["files"][0]["tests"][0];
    assert_eq!((&first["passed"], &first["got"]), (&true.into(), &"allow".into()));
}

#[test]
fn a_failed_test_says_what_was_decided_and_why() {
    let dir = tempfile::tempdir().unwrap();
    copy("site-a", &dir.path().join("site-a"));
    copy("site-b", &dir.path().join("site-b"));
    fs::copy(demo().join("policies.test.yaml"), dir.path().join("t.yaml")).unwrap();
    let policies = dir.path().join("site-b/objects/policies.yaml");
    replace(&policies, "labels.app: client", "labels.app: curl");
    let text = answer(dir.path(), 1, &["policy", "test", "t.yaml"]);
    assert!(
        text.contains("FAILED  the client reaches the web server\n        at t.yaml:"),
        "{text}"
    );
    assert!(
        text.contains(
            "expected ALLOW by demo/allow-client-of-site-a, got DENY by <default deny>\n        \
             importer site-a for demo/web at site-b: ALLOW by demo/allow-client\n        \
             exporter site-b: DENY by <default deny>\n"
        ),
        "{text}"
    );
    assert!(text.contains("from[0] wants client.clusterlink.net/labels.app In [curl]"), "{text}");
    assert!(text.ends_with("4 passed, 3 failed\n"), "{text}");
    let document = json(dir.path(), 1, &["policy", "test", "t.yaml", "--json"]);
    assert_eq!(document["files"][0]["tests"][0]["legs"][1]["side"], "ingress");
}

#[test]
fn a_wrong_table_is_invalid_with_every_error_at_its_line() {
    let dir = tempfile::tempdir().unwrap();
    copy("site-a", &dir.path().join("site-a"));
    let table = |sites: &str, tests: &str| {
        let text = format!("sites:\n  site-a: {{ {sites} }}\ntests:\n{tests}");
        fs::write(dir.path().join("t.yaml"), text).unwrap();
    };
    let config = "config: site-a/gateway.yaml";
    table(config, "- { site: site-b, import: demo/web, client: unknown, expct: deny }\n");
    let text = refusal(dir.path(), 3, &["policy", "test", "t.yaml"]);
    assert!(text.contains("did you mean `site-a`?"), "{text}");
    assert!(text.contains("did you mean `expect`?"), "{text}");
    assert!(text.contains("t.yaml:4:"), "{text}");

    table(config, "- { site: site-a, import: demo/wbe, client: unknown, expect: deny }\n");
    let text = refusal(dir.path(), 3, &["policy", "test", "t.yaml"]);
    assert!(text.contains("did you mean `demo/web`?"), "{text}");

    fs::create_dir(dir.path().join("other")).unwrap();
    copy("site-b", &dir.path().join("other"));
    let test = "- { site: site-a, import: demo/web, client: unknown, expect: deny }\n";
    table("config: other/gateway.yaml", test);
    let text = refusal(dir.path(), 3, &["policy", "test", "t.yaml"]);
    assert!(text.contains("call the site `site-b`"), "{text}");

    table("objects: nowhere", test);
    let (code, out, _) = run(dir.path(), &["policy", "test", "t.yaml", "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["errors"]), (3, &1.into()), "{out}");
    refusal(dir.path(), 3, &["policy", "test", "none.yaml"]);
    refusal(dir.path(), 2, &["policy", "test"]);
}

#[test]
fn diff_tells_changed_objects_and_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let new = copy("site-a", dir.path());
    let (old, new_text) = (demo().join("site-a"), new.display().to_string());
    let old = old.display().to_string();
    let args = ["policy", "diff", &*old, &*new_text];
    let text = answer(dir.path(), 0, &args);
    assert!(text.starts_with("objects    no changes\ndecisions  6 compared, 0 with"), "{text}");

    replace(&new.join("objects/policies.yaml"), "labels.app: client", "labels.app: curl");
    let text = answer(dir.path(), 1, &args);
    let expected = "\
objects    1 changed
  changed  AccessPolicy demo/allow-client
             from removed: client.clusterlink.net/labels.app In [client]
             from added: client.clusterlink.net/labels.app In [curl]
decisions  6 compared, 2 with another verdict
  ALLOW by demo/allow-client -> DENY by <default deny>
    import demo/iperf at site-b, import demo/web at site-b
    demo/client
";
    assert_eq!(text, expected);
    let document = json(dir.path(), 1, &[&args[..], &["--json"]].concat());
    assert_eq!(document["verdictsChange"], true);
    assert_eq!(document["objects"][0]["change"], "changed");
    let change = &document["decisions"][0];
    assert_eq!(change["services"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&change["old"]["verdict"], &change["clients"][0]),
        (&"allow".into(), &"demo/client".into())
    );

    fs::write(new.join("objects/policies.yaml"), "kind: [").unwrap();
    assert!(refusal(dir.path(), 3, &args).contains("policies.yaml:1:"));
}

#[test]
fn diff_of_exports_needs_importers_and_other_policies_alone_are_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let new = copy("site-b", dir.path()).display().to_string();
    let policies = dir.path().join("objects/policies.yaml");
    let args = ["policy", "diff", "site-b", &*new];
    replace(&policies, "name: allow-client-of-site-a", "name: allow-clients");
    let with = [&args[..], &["--importer", "site-a"]].concat();
    let text = answer(&demo(), 0, &with);
    assert!(text.contains("removed  AccessPolicy demo/allow-client-of-site-a"), "{text}");
    assert!(!text.contains("ALLOW by"), "{text}");
    let text = answer(&demo(), 0, &[&with[..], &["-v"]].concat());
    let line = "ALLOW by demo/allow-client-of-site-a -> ALLOW by demo/allow-clients";
    assert!(text.contains(line), "{text}");

    replace(&policies, "net/name: site-a", "net/name: site-x");
    let text = answer(&demo(), 0, &args);
    assert!(text.contains("2 exports compared for unknown clients only"), "{text}");
    let text = answer(&demo(), 1, &with);
    assert!(text.contains("site-a: demo/client"), "{text}");
}

#[test]
fn a_large_difference_is_told_in_few_lines() {
    let dir = tempfile::tempdir().unwrap();
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: clusterlink.net/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n\
             spec: {spec}\n"
        )
    };
    for (state, action) in [("old", "deny"), ("new", "allow")] {
        let mut text = object("Peer", "b", "{gateways: [{host: 192.0.2.1, port: 1}]}");
        for n in 0..300 {
            let address = format!("{{addresses: [10.0.{}.{}]}}", n / 256, n % 256);
            text += &object("Workload", &format!("w{n}"), &address);
            text += &object(
                "Import",
                &format!("i{n}"),
                "{port: 1, sources: [{peer: b, exportName: x, exportNamespace: x}]}",
            );
        }
        let all = "[{workloadSelector: {}}]";
        let policy = format!("{{action: {action}, from: {all}, to: {all}}}");
        text += &object("AccessPolicy", "p", &policy);
        fs::create_dir(dir.path().join(state)).unwrap();
        fs::write(dir.path().join(state).join("all.yaml"), text).unwrap();
    }
    let text = answer(dir.path(), 1, &["policy", "diff", "old", "new"]);
    assert!(text.contains("90300 compared, 90300 with another verdict"), "{text}");
    assert!(text.contains("301 clients: ") && text.contains(" and 298 more\n"), "{text}");
    assert!(text.lines().count() < 10, "{text}");
    let text = answer(dir.path(), 1, &["policy", "diff", "old", "new", "--all"]);
    assert!(text.contains("default/w299"), "{text}");
}
