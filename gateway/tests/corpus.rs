//! The fuzzer's inputs that were worth keeping, without the fuzzer. New ones come from `make fuzz`.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

#[test]
fn segments() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/segments");
    let (mut inputs, mut fed) = (0, 0);
    for entry in fs::read_dir(directory).expect("a corpus") {
        let path = entry.expect("an entry").path();
        // The name of an input that fails stands above the panic's message.
        eprintln!("{}", path.display());
        fed += bodies::segments(&fs::read(path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10 && fed > 100, "{inputs} inputs, {fed} segments");
}
