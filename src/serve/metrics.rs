//! The metrics registry that every role starts from.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{gauge::ConstGauge, info::Info},
    registry::Registry,
};

/// A registry with the process's memory and the build of `role`.
pub fn registry(role: &'static str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
    registry.register("backstop_build", "Version and role of this process", build);
    registry.register_collector(Box::new(Process));
    registry
}

/// Reads the process's memory when it is asked for.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        // No value is better than a wrong zero where /proc is missing.
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let encoder = encoder.encode_descriptor(
                "backstop_process_resident_memory_bytes",
                "Resident memory of this process",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}

/// Resident memory by `/proc/self/status`, which counts in kB whatever the page size is.
fn resident_bytes() -> Option<i64> {
    resident_bytes_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_bytes_in(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes_in("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes_in("Name:\tx\n"), None);
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
