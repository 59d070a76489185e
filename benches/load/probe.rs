//! Processor time of the server, of the generator and of everything on this machine.

use std::time::Duration;

use crate::server;

/// Processor time from one moment to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    server_pid: Option<u32>,
    begin: CpuTimes,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTimes {
    pub(crate) server: Option<Duration>,
    pub(crate) own: Duration,
    pub(crate) machine: Duration,
}

impl Probe {
    pub(crate) fn new(server_pid: Option<u32>) -> Self {
        Self { server_pid, begin: CpuTimes::default() }
    }

    pub(crate) fn begin(&mut self) -> Result<(), String> {
        self.begin = self.read()?;
        Ok(())
    }

    pub(crate) fn end(&self) -> Result<CpuTimes, String> {
        let (begin, end) = (self.begin, self.read()?);
        Ok(CpuTimes {
            server: end.server.zip(begin.server).map(|(end, begin)| end.saturating_sub(begin)),
            own: end.own.saturating_sub(begin.own),
            machine: end.machine.saturating_sub(begin.machine),
        })
    }

    fn read(&self) -> Result<CpuTimes, String> {
        Ok(CpuTimes {
            server: self.server_pid.map(server::cpu_time).transpose()?,
            own: server::own_cpu_time()?,
            machine: server::machine_cpu_time()?,
        })
    }
}
