//! ClusterLink's end-to-end case of round-robin, between real clients and servers. The other
//! schemes differ in nothing that a kernel could show; they are tested in simulation.

use std::time::Duration;

use crate::lab::{Lab, Process};
use crate::world::World;

/// Where the import listens: it has no VIP, so at site A's own address.
const IMPORT: &str = "10.1.0.1:7100";
/// Port of the service of source 0; the others follow.
const FIRST_PORT: u16 = 7020;
const LOGGED: Duration = Duration::from_secs(5);

/// Who serves each of `count` connections, one after the other.
fn ask(lab: &Lab, count: usize) -> Vec<String> {
    let text = lab.client(&format!("ask {IMPORT} {count}"), Duration::from_secs(60));
    let names = text.lines().find_map(|line| line.strip_prefix("served by "));
    names.expect("names").split(' ').map(str::to_owned).collect()
}

fn cycle(names: &[&str], count: usize) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).cycle().take(count).collect()
}

#[test]
fn test_load_balancing_round_robin() {
    let mut world = World::new();
    let mut sources = String::new();
    let mut servers: Vec<Process> = Vec::new();
    for n in 0..3 {
        let port = FIRST_PORT + n;
        servers.push(world.lab.server(&format!("named-{n}"), &format!("named [::]:{port} {n}")));
        world.site_b.object(
            &format!("export-lb{n}.yaml"),
            &format!(
                "kind: Export\nmetadata: {{ name: lb{n}, namespace: demo }}\nspec: {{ host: \
                 10.2.0.2, port: {port} }}\n"
            ),
        );
        sources += &format!("    - {{ peer: site-b, exportName: lb{n}, exportNamespace: demo }}\n");
    }
    world.site_a.object(
        "import-lb.yaml",
        &format!(
            "kind: Import\nmetadata: {{ name: lb, namespace: demo }}\nspec:\n  port: 7100\n  \
             lbScheme: round-robin\n  sources:\n{sources}"
        ),
    );
    for gateway in [&mut world.a, &mut world.b] {
        gateway.signal("HUP");
        gateway.wait_for_all(&["reloaded", "generation=2"], LOGGED);
    }
    assert_eq!(ask(&world.lab, 30), cycle(&["1", "2", "0"], 30));
    let delete = |world: &mut World, n: u32| {
        world.site_b.remove_object(&format!("export-lb{n}.yaml"));
        world.b.signal("HUP");
        world.b.wait_for_all(&["reloaded", &format!("generation={}", 3 + n)], LOGGED);
    };
    delete(&mut world, 0);
    assert_eq!(ask(&world.lab, 30), cycle(&["1", "2"], 30));
    delete(&mut world, 1);
    assert_eq!(ask(&world.lab, 30), cycle(&["2"], 30));
    delete(&mut world, 2);
    assert_eq!(ask(&world.lab, 1), ["nobody"]);
    world.a.wait_for_all(&["connection refused", "demo/lb", "export_not_found"], LOGGED);
    drop(servers);
    world.stop();
}
