//! The device that runs the models: the GPU, if there is one and the program was built with `--features cuda`;
//! otherwise the CPU.

use std::sync::OnceLock;

use candle_core::Device;

/// Returns the device, which is determined once.
pub(super) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        if !candle_core::utils::cuda_is_available() {
            return Device::Cpu;
        }
        match Device::new_cuda(0) {
            Ok(gpu) => {
                tracing::info!("models run on the GPU");
                gpu
            }
            Err(error) => {
                tracing::warn!("cannot use the GPU, so models run on the CPU: {error}");
                Device::Cpu
            }
        }
    })
}
