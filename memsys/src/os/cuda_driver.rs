//! The CUDA driver, asked how much of a GPU is free before libtorch takes any of it.
//!
//! libtorch wants its share of a GPU before it starts CUDA and tells what is free only afterwards. The driver's library is
//! opened at run time: this program does not link it, and a machine without a GPU has none. Devices are numbered as
//! libtorch numbers them (`CUDA_VISIBLE_DEVICES` applies).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::error::{Error, Result};

const LIBRARY: &CStr = c"libcuda.so.1";
const SUCCESS: c_int = 0;

/// Bytes of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuBytes {
    /// Bytes that no process has taken.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// Reads how much of GPU `index` is free, after its context, which this creates and libtorch uses later, has taken its
/// part. No other GPU gets a context.
///
/// # Errors
/// [`Error::Gpu`] if there is no driver or no such GPU, or the driver does not answer.
pub fn gpu_bytes(index: usize) -> Result<GpuBytes> {
    let failed = |problem: String| Error::Gpu { index, problem };
    let driver = Driver::open().map_err(failed)?;
    driver.memory(index).map_err(failed)
}

type Initialize = unsafe extern "C" fn(c_uint) -> c_int;
type GetDevice = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type RetainContext = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
type PushContext = unsafe extern "C" fn(*mut c_void) -> c_int;
type PopContext = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type GetMemory = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;

/// The opened library. It stays open for the rest of the process, as libtorch uses it too.
struct Driver {
    library: *mut c_void,
}

impl Driver {
    fn open() -> std::result::Result<Self, String> {
        // SAFETY: the name is NUL-terminated. Opening runs the driver's initializers, which libtorch would run later.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err("the driver's library libcuda.so.1 cannot be opened".to_owned());
        }
        Ok(Self { library })
    }

    fn memory(&self, index: usize) -> std::result::Result<GpuBytes, String> {
        let (mut device, mut context) = (0, std::ptr::null_mut());
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: the types are those of the CUDA driver's API, whose symbols carry their version in their name.
        let (initialize, get_device, retain, push, pop, get_memory) = unsafe {
            (
                self.function::<Initialize>(c"cuInit")?,
                self.function::<GetDevice>(c"cuDeviceGet")?,
                self.function::<RetainContext>(c"cuDevicePrimaryCtxRetain")?,
                self.function::<PushContext>(c"cuCtxPushCurrent_v2")?,
                self.function::<PopContext>(c"cuCtxPopCurrent_v2")?,
                self.function::<GetMemory>(c"cuMemGetInfo_v2")?,
            )
        };
        let ordinal = c_int::try_from(index).map_err(|_| "there is no such device".to_owned())?;
        // SAFETY: every pointer is to a local that outlives its call. The primary context stays retained, because libtorch
        // uses it next; the thread's stack of contexts is as before when this returns.
        unsafe {
            succeeds("cuInit", initialize(0))?;
            succeeds("cuDeviceGet", get_device(&raw mut device, ordinal))?;
            succeeds("cuDevicePrimaryCtxRetain", retain(&raw mut context, device))?;
            succeeds("cuCtxPushCurrent", push(context))?;
            let read = succeeds("cuMemGetInfo", get_memory(&raw mut free, &raw mut total));
            succeeds("cuCtxPopCurrent", pop(&raw mut context))?;
            read?;
        }
        Ok(GpuBytes { free_bytes: free as u64, total_bytes: total as u64 })
    }

    /// The function of the library with this name.
    ///
    /// # Safety
    /// `F` must be the type of the function's pointer.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> std::result::Result<F, String> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the library is open and the name is NUL-terminated.
        let address = unsafe { libc::dlsym(self.library, name.as_ptr().cast::<c_char>()) };
        if address.is_null() {
            return Err(format!("the driver has no {}", name.to_string_lossy()));
        }
        // SAFETY: the address is not null, has the size of `F`, and by the caller's promise is a function of that type.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

fn succeeds(what: &str, status: c_int) -> std::result::Result<(), String> {
    if status == SUCCESS { Ok(()) } else { Err(format!("the driver answered {what} with error {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_tells_its_bytes_or_why_it_does_not() {
        match gpu_bytes(0) {
            Ok(bytes) => assert!(bytes.free_bytes <= bytes.total_bytes && bytes.total_bytes > 0),
            Err(error) => assert!(error.to_string().starts_with("cuda:0: the driver"), "{error}"),
        }
        assert!(gpu_bytes(usize::MAX).is_err());
    }

    #[test]
    fn a_missing_function_and_a_failed_call_are_told() {
        // SAFETY: null means this program itself, and what is asked for does not exist.
        let driver = Driver { library: unsafe { libc::dlopen(std::ptr::null(), libc::RTLD_NOW) } };
        // SAFETY: there is no such function, so nothing is called.
        let missing = unsafe { driver.function::<Initialize>(c"cuNothing") };
        assert_eq!(missing.unwrap_err(), "the driver has no cuNothing");
        assert_eq!(succeeds("cuInit", 100).unwrap_err(), "the driver answered cuInit with error 100");
    }
}
