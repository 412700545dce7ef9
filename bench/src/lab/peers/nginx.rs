//! A pair of nginx with the stream module.

use super::{Gateways, PROBES, SERVICES, SUITE, Site, write};
use crate::lab::{Net, Place, usage};

/// Where Debian's libnginx-mod-stream puts it.
pub const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub fn start(program: &str, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        let file = site.dir.join("nginx.conf");
        write(&file, &config(site, usage::relayed_limit()? + PROBES))?;
        let file = file.display().to_string();
        let command = [program, "-c", &file];
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    Ok(gateways)
}

fn config(site: &Site, connections: u64) -> String {
    let (cert, key, ca) = (site.cert.display(), site.key.display(), site.ca.display());
    let mut text = format!(
        "load_module {MODULE};\n\
         daemon off;\nworker_processes 1;\nuser root;\npid {dir}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {sides}; }}\n\
         stream {{\n  access_log off;\n  tcp_nodelay on;\n  proxy_buffer_size 64k;\n  \
         proxy_timeout 600s;\n",
        // nginx counts both sides of a relayed one.
        sides = 2 * connections,
        dir = site.dir.display()
    );
    for (_, port, between) in SERVICES {
        text.push_str(&match site.place {
            Place::A => format!(
                "  server {{\n    listen 10.1.0.1:{port} backlog=4096;\n    \
                 proxy_pass 192.0.2.2:{between};\n    proxy_ssl on;\n    \
                 proxy_ssl_certificate {cert};\n    proxy_ssl_certificate_key {key};\n    \
                 proxy_ssl_trusted_certificate {ca};\n    proxy_ssl_verify on;\n    \
                 proxy_ssl_server_name on;\n    proxy_ssl_name site-b;\n    \
                 proxy_ssl_protocols TLSv1.3;\n    \
                 proxy_ssl_conf_command Ciphersuites {SUITE};\n  }}\n"
            ),
            _ => format!(
                "  server {{\n    listen 192.0.2.2:{between} ssl backlog=4096;\n    \
                 proxy_pass 10.2.0.2:{port};\n    ssl_certificate {cert};\n    \
                 ssl_certificate_key {key};\n    ssl_client_certificate {ca};\n    \
                 ssl_verify_client on;\n    ssl_protocols TLSv1.3;\n    \
                 ssl_conf_command Ciphersuites {SUITE};\n    \
                 ssl_session_cache shared:sessions:10m;\n  }}\n"
            ),
        });
    }
    text + "}\n"
}
