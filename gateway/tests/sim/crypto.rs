//! Sites whose gateways have different libraries of cryptography, as far as this build has some.

use clgw::config::Crypto;
use clgw::telemetry::Event;

use crate::sites::*;

#[test]
fn gateways_of_any_library_work_together() {
    for &a in Crypto::ALL {
        for &b in Crypto::ALL {
            let mut world = Sites::default().build_with(&Identities::of(a, b));
            let (client, server) = (Script::new(300_000, 200_000), Script::new(200_000, 300_000));
            let served = serve(&mut world, server.clone());
            let watch = connect(&mut world, WEB, client.clone());
            run(&mut world, 20, |_| watch.borrow().complete(&client));
            run(&mut world, 20, |_| served.borrow()[0].borrow().complete(&server));
            // Only AWS-LC has the key exchange that outlives quantum computers.
            let group = match [a.name(), b.name()] {
                ["aws-lc", "aws-lc"] => "X25519MLKEM768",
                _ => "X25519",
            };
            let mut tunnels = 0;
            for gateway in [A, B] {
                while let Some(event) = world.gateways[gateway].event() {
                    if let Event::TunnelUp { key_exchange, .. } = event {
                        assert_eq!(key_exchange, group, "{a:?} and {b:?}");
                        tunnels += 1;
                    }
                }
            }
            assert!(tunnels >= 2, "{tunnels} tunnels");
        }
    }
}
