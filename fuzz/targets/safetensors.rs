//! Reads any bytes as a safetensors file, and all that an open one has to give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_format::Safetensors;

fuzz_target!(|bytes: &[u8]| {
    let file = match Safetensors::from_bytes(bytes.to_vec(), "fuzz") {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz: "));
            return;
        }
    };
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("it was read"));
    let mut data = 0;
    for tensor in file.tensors() {
        let found = file
            .tensor(tensor.name)
            .expect("a tensor is found by its name");
        assert_eq!(found.data, tensor.data);
        let elements: u64 = tensor.shape.iter().product();
        assert_eq!(elements * tensor.dtype.bits(), 8 * tensor.data.len() as u64);
        data += tensor.data.len();
    }
    // Tensors fill the file: what they hold is all that follows the header.
    assert_eq!(8 + header as usize + data, bytes.len());
});
