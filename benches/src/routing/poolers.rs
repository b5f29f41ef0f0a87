//! pgbouncer and pgpool before the servers, as they come, but for where they listen.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use super::Trouble;
use super::servers::{AS_POSTGRES, Servers, is_root};
use crate::cli::remark;
use crate::clock;
use crate::proxy_faults::fleet::{Ports, program};
use crate::proxy_faults::process::{Folder, Process};

/// How long one may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A pooler that runs.
#[derive(Debug)]
pub struct Pooler {
    /// Where it listens.
    pub port: u16,
    process: Process,
    _folder: Folder,
}

impl Pooler {
    /// pgbouncer before the first replica; `None` if it is not installed, which is said.
    ///
    /// # Errors
    ///
    /// That it does not start.
    pub fn pgbouncer(servers: &Servers, mode: &str) -> Result<Option<Self>, Trouble> {
        let replica = servers.ports()[1];
        Self::start("pgbouncer", "pgbouncer", mode, |folder, port| {
            format!(
                "[databases]\npostgres = host=127.0.0.1 port={replica} user=postgres dbname=postgres\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                 pool_mode = {mode}\nlogfile = {folder}/log\n"
            )
        })
    }

    /// pgpool before all servers; `None` if it is not installed, which is said. It balances reads by sessions.
    ///
    /// # Errors
    ///
    /// That it does not start.
    pub fn pgpool(servers: &Servers) -> Result<Option<Self>, Trouble> {
        let mut backends = String::new();
        for (index, port) in servers.ports().iter().enumerate() {
            backends.push_str(&format!(
                "backend_hostname{index} = '127.0.0.1'\nbackend_port{index} = {port}\nbackend_weight{index} = {}\n\
                 backend_flag{index} = 'DISALLOW_TO_FAILOVER'\n",
                u8::from(index > 0)
            ));
        }
        Self::start("pgpool", "pgpool2", "pgpool", |folder, port| {
            format!(
                "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\n\
                 socket_dir = '{folder}'\npcp_socket_dir = '{folder}'\npcp_port = {}\nlogdir = '{folder}'\n\
                 pid_file_name = '{folder}/pid'\nbackend_clustering_mode = 'streaming_replication'\n\
                 load_balance_mode = on\nsr_check_user = 'postgres'\nsr_check_database = 'postgres'\n{backends}",
                port + 1
            )
        })
    }

    fn start(
        name: &'static str,
        package: &str,
        mode: &str,
        settings: impl FnOnce(&str, u16) -> String,
    ) -> Result<Option<Self>, Trouble> {
        let Some(program) = program(name) else {
            remark(format_args!("left out: {name} is not installed (Debian: apt-get install {package})"));
            return Ok(None);
        };
        let folder = Folder::new(&format!("{name}-{mode}"))?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777))?;
        let port = Ports::new().free()?.port();
        let file = folder.path().join("settings");
        write(&file, &settings(&folder.path().to_string_lossy(), port))?;
        let file = file.to_string_lossy().into_owned();
        let program = program.to_string_lossy().into_owned();
        let mut words: Vec<String> = if is_root() { AS_POSTGRES.map(str::to_owned).to_vec() } else { Vec::new() };
        words.push(program);
        if name == "pgpool" {
            words.extend(["-n", "-f", &file, "-F", "/dev/null"].map(str::to_owned));
        } else {
            words.push(file);
        }
        let is_loud = std::env::var_os("TENFOLD_PROXY_STDERR").is_some();
        let (first, rest) = words.split_first().ok_or("there is no command")?;
        let process = Process::start(OsStr::new(first), rest, is_loud)?;
        let pooler = Self { port, process, _folder: folder };
        pooler.await_listening(name)?;
        Ok(Some(pooler))
    }

    /// Its processes are of this group.
    #[must_use]
    pub fn group(&self) -> Pid {
        self.process.pid()
    }

    fn await_listening(&self, name: &str) -> Result<(), Trouble> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let begin = clock::uptime();
        while TcpStream::connect_timeout(&address, START_LIMIT).is_err() {
            if clock::uptime() - begin > START_LIMIT {
                return Err(format!("{name} does not start; TENFOLD_PROXY_STDERR=1 shows why").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<(), Trouble> {
    let mut file = fs::File::create(file)?;
    file.write_all(text.as_bytes())?;
    Ok(file.set_permissions(PermissionsExt::from_mode(0o644))?)
}
