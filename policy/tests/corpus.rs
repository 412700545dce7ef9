//! The fuzzer's inputs that were worth keeping, without the fuzzer. New ones come from `make fuzz`.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

fn each(target: &str, body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(directory).expect("a corpus") {
        let path = entry.expect("an entry").path();
        // The name of an input that fails stands above the panic's message.
        eprintln!("{}", path.display());
        body(&fs::read(path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs} inputs");
}

#[test]
fn load() {
    each("load", bodies::load);
}

#[test]
fn selectors() {
    each("selectors", bodies::selectors);
}
