//! Compiles the .proto files with protox, so that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "project",
        "virtual_network",
        "port",
        "security_group",
        "security_policy",
        "router",
        "floating_ip",
        "cluster",
        "database",
        "explain",
        "counters",
        "query",
        "agent",
    ]
    .map(|name| format!("quantumnet/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".quantumnet.v1.RowChanges")
        // In one order: the digest of a request, by which its repetition is known, is that of its encoding.
        .btree_map(".quantumnet.v1.ObjectMeta")
        .btree_map(".quantumnet.v1.DhcpConfig")
        .btree_map(".quantumnet.v1.VirtualMachine")
        .compile_fds(compiler.file_descriptor_set())?;
    // Apart from the API: what members say among themselves is neither reflected nor reachable as JSON.
    let peer = protox::compile(["quantumnet/peer/v1/peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".quantumnet.peer.v1").compile_fds(peer)?;
    Ok(())
}
