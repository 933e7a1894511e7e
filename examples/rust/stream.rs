//! A trained GRU over a stream, from Rust by the C interface: reads a step of numbers a line, prints each output.
//!
//!     rustc -O examples/rust/stream.rs -L native=PREFIX/lib -C link-arg=-Wl,-rpath,PREFIX/lib -o stream
//!     ./stream gru.safetensors encoder.rnn. < steps.txt

use std::ffi::{CStr, CString};
use std::io::{self, BufRead};
use std::os::raw::{c_char, c_int};
use std::ptr;

#[repr(C)]
struct Error {
    message: [c_char; 512],
}

#[repr(C)]
struct Model {
    _private: [u8; 0],
}

#[repr(C)]
struct Stream {
    _private: [u8; 0],
}

#[link(name = "fastgru")]
extern "C" {
    fn fastgru_load(path: *const c_char, prefix: *const c_char, model: *mut *mut Model, error: *mut Error) -> c_int;
    fn fastgru_free(model: *mut Model);
    fn fastgru_input_size(model: *const Model) -> i64;
    fn fastgru_output_size(model: *const Model) -> i64;
    fn fastgru_stream_create(model: *const Model, batch: i64, stream: *mut *mut Stream, error: *mut Error) -> c_int;
    fn fastgru_stream_free(stream: *mut Stream);
    fn fastgru_stream_step(stream: *mut Stream, x: *const f32, y: *mut f32, error: *mut Error) -> c_int;
}

/// A stream of one sequence. It is `Send`, as it may move to another thread, and not `Sync`: one thread at a time.
pub struct GruStream {
    stream: *mut Stream,
    inputs: usize,
    output: Vec<f32>,
}

unsafe impl Send for GruStream {}

/// What the library says went wrong.
fn checked(call: impl FnOnce(*mut Error) -> c_int) -> Result<(), String> {
    let mut error = Error { message: [0; 512] };
    match call(&mut error) {
        0 => Ok(()),
        _ => Err(unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_string_lossy().into_owned()),
    }
}

impl GruStream {
    pub fn load(path: &str, prefix: &str) -> Result<Self, String> {
        let [path, prefix] = [path, prefix].map(|text| CString::new(text).map_err(|error| error.to_string()));
        let (path, prefix) = (path?, prefix?);
        let (mut model, mut stream) = (ptr::null_mut(), ptr::null_mut());
        checked(|error| unsafe { fastgru_load(path.as_ptr(), prefix.as_ptr(), &mut model, error) })?;
        let made = checked(|error| unsafe { fastgru_stream_create(model, 1, &mut stream, error) });
        let (inputs, outputs) = unsafe { (fastgru_input_size(model), fastgru_output_size(model)) };
        unsafe { fastgru_free(model) }; // the stream has what it needs
        made.map(|()| GruStream { stream, inputs: inputs as usize, output: vec![0.0; outputs as usize] })
    }

    pub fn step(&mut self, x: &[f32]) -> Result<&[f32], String> {
        if x.len() != self.inputs {
            return Err(format!("expected {} numbers a step, got {}", self.inputs, x.len()));
        }
        checked(|error| unsafe { fastgru_stream_step(self.stream, x.as_ptr(), self.output.as_mut_ptr(), error) })?;
        Ok(&self.output)
    }
}

impl Drop for GruStream {
    fn drop(&mut self) {
        unsafe { fastgru_stream_free(self.stream) }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().collect();
    let path = arguments.get(1).ok_or("usage: stream FILE.safetensors [PREFIX]")?;
    let mut stream = GruStream::load(path, arguments.get(2).map_or("", String::as_str))?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let numbers: Result<Vec<f32>, _> = line.split_whitespace().map(str::parse).collect();
        let output = stream.step(&numbers.map_err(|error| format!("{line}: {error}"))?)?;
        println!("{}", output.iter().map(f32::to_string).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

fn main() {
    if let Err(words) = run() {
        eprintln!("stream: {words}");
        std::process::exit(1);
    }
}
