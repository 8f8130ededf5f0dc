//! Lets the loader find libtorch without an environment variable, and refuses a libtorch that `tch` was not written for.

use std::path::{Path, PathBuf};

/// The one libtorch that `tch` 0.24 fits.
const WANTED: &str = "2.11";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_TRAIN").is_none() {
        return;
    }
    let Some(torch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        panic!(
            "the feature `train` needs LIBTORCH: run tools/libtorch.sh, or point it at an installed torch {WANTED} folder"
        );
    };
    check_version(&torch);
    // Beside torch/ lie the CUDA libraries that libtorch_cpu of the CUDA wheel is linked against.
    let beside = torch.parent().unwrap_or(Path::new("/"));
    for folder in [torch.join("lib"), beside.join("nvidia/cu13/lib")] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
        println!("cargo:rustc-link-arg=-Wl,-rpath-link,{}", folder.display());
    }
    if torch.join("lib/libtorch_cuda.so").exists() && std::env::var_os("UNDIFFUSE_CUDA").is_some() {
        // rustc drops a library that no symbol asks for; CUDA registers itself when it is loaded.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch_cuda");
    }
}

fn check_version(torch: &Path) {
    let header = torch.join("include/torch/headeronly/version.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = std::fs::read_to_string(&header).unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix("#define ")?.strip_prefix(name));
        line.map_or("?".to_owned(), |v| v.trim().to_owned())
    };
    let version = format!("{}.{}", number("TORCH_VERSION_MAJOR"), number("TORCH_VERSION_MINOR"));
    assert!(
        version == WANTED,
        "LIBTORCH={} is libtorch {version} (read in {}), but tch 0.24 needs {WANTED}: run tools/libtorch.sh",
        torch.display(),
        header.display()
    );
}
