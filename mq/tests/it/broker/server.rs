//! A NATS server of the test's own: its port, its folder, its process group; it ends with the test, however that ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tenfold_mq::{Config, Durability, NatsConfig};

pub(super) struct Server {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    port: u16,
    /// From 2.10 on.
    pub(super) can_sync: bool,
}

impl Server {
    /// `None` if there is no server and the environment says that this is fine.
    pub(super) fn start(folder: &Path) -> Option<Self> {
        let program =
            std::env::var_os("TENFOLD_NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
        let Ok(version) = Command::new(&program).arg("--version").output() else {
            if std::env::var_os("TENFOLD_WITHOUT_NATS").is_some() {
                eprintln!("!!!! LEFT OUT: no nats-server here");
                return None;
            }
            panic!(
                "no nats-server: install it (Debian's package nats-server), name its program in TENFOLD_NATS_SERVER, or \
                 set TENFOLD_WITHOUT_NATS to leave its tests out"
            );
        };
        let version = String::from_utf8(version.stdout).unwrap();
        let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
        let can_sync = minor >= 10;
        let sync = if can_sync { "sync_interval: always" } else { "" };
        let store = folder.join("store");
        let config =
            format!("port: -1\nhost: 127.0.0.1\njetstream {{\n store_dir: {store:?}\n max_file: 1G\n {sync}\n}}\n");
        std::fs::write(folder.join("server.conf"), config).unwrap();
        let child = run(&program, folder, None);
        let mut server = Self { program, folder: folder.to_owned(), child, port: 0, can_sync };
        server.port = server.wait();
        Some(server)
    }

    pub(super) fn config(&self, name: &str, queue: Config) -> NatsConfig {
        let durability = if self.can_sync { Durability::Always } else { Durability::Os };
        NatsConfig {
            servers: format!("nats://127.0.0.1:{}", self.port),
            name: name.to_owned(),
            priorities: 3,
            key_lanes: 4,
            queue: Config { durability, ..queue },
            ..NatsConfig::default()
        }
    }

    /// As by `kill -9`.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same again, on the same port.
    pub(super) fn restart(&mut self) {
        self.child = run(&self.program, &self.folder, Some(self.port));
        self.wait();
    }

    /// Until it says in a file which port it has.
    fn wait(&mut self) -> u16 {
        let ports = self.folder.join(format!("nats-server_{}.ports", self.child.id()));
        let began = Instant::now();
        loop {
            if let Some(port) = std::fs::read_to_string(&ports).ok().as_deref().and_then(port) {
                return port;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("nats-server ended with {status}:\n{}", self.log());
            }
            assert!(began.elapsed() < Duration::from_secs(20), "nats-server does not come up:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process group of its own, so that an interrupt at the terminal is not its business.
fn run(program: &Path, folder: &Path, port: Option<u16>) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("server.conf")).arg("--ports_file_dir").arg(folder);
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// `{"nats":["nats://127.0.0.1:41234"]}`
fn port(ports: &str) -> Option<u16> {
    let address = ports.split('"').find(|part| part.starts_with("nats://"))?;
    address.rsplit(':').next()?.parse().ok()
}
