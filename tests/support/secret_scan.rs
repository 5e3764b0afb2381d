//! Looks for the secrets of a test in logs, errors and files, where nobody may read them.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A part of every secret of such a test: a text that stands nowhere else.
pub const SECRET: &str = "canary7f3a91";

/// The first form in which [`SECRET`] can be read in `bytes`: in clear, in hex or in Base64.
pub fn find_secret(bytes: &[u8]) -> Option<String> {
    // In Base64 the secret looks different at each of three offsets. The ends depend on the bytes
    // around it.
    let encoded = (0..3).map(|offset| {
        let padded = format!("{}{SECRET}", "x".repeat(offset));
        let encoded = STANDARD_NO_PAD.encode(padded);
        encoded[4..encoded.len() - 2].to_owned()
    });
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = encoded.chain([hex.to_uppercase(), hex, SECRET.to_owned()]);
    forms.find(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// The files in a folder, and in those inside it, in which the secret can be read, and the forms.
pub fn files_with_secret(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with_secret(&path));
        } else {
            let form = find_secret(&fs::read(&path).unwrap());
            found.extend(form.map(|form| format!("{form} is in {}", path.display())));
        }
    }
    found
}

mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn i7_a_secret_in_a_file_is_found_in_clear_in_base64_and_in_hex() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let secret = format!("token {SECRET}0123456789");
        let encode = |bytes: &str| STANDARD.encode(bytes);
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        fs::write(logs.join("none"), "nothing").unwrap();
        assert_eq!(files_with_secret(folder.path()), [""; 0]);
        let moved = [encode(&secret), encode(&secret[1..]), encode(&secret[2..])];
        for text in moved.into_iter().chain([secret, hex]) {
            fs::write(logs.join("some"), format!("before {text} after")).unwrap();
            assert_eq!(files_with_secret(folder.path()).len(), 1, "{text}");
        }
    }
}
