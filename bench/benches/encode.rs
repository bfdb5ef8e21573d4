//! Encodes commands, which a caller does before its command is staged.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redis::{Cmd, pipe};

criterion_group!(benches, encode);
criterion_main!(benches);

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let (small, large) = (vec![b'v'; 64], vec![b'v'; 16 << 10]);
    // A connection reuses its buffer for every command.
    let mut buffer = Vec::new();
    let mut encode = |command: &Cmd| {
        buffer.clear();
        command.write_packed_command(&mut buffer);
        black_box(buffer.len());
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("GET", |bencher| bencher.iter(|| encode(&Cmd::get(black_box("some:key")))));
    group.bench_function("SET 64 B", |bencher| {
        bencher.iter(|| encode(&Cmd::set(black_box("some:key"), &small)));
    });
    group.bench_function("SET 16 KiB", |bencher| {
        bencher.iter(|| encode(&Cmd::set(black_box("some:key"), &large)));
    });

    group.throughput(Throughput::Elements(100));
    group.bench_function("pipeline of 100 SETs", |bencher| {
        bencher.iter(|| {
            let mut pipeline = pipe();
            for _ in 0..100 {
                pipeline.set(black_box("some:key"), &small).ignore();
            }
            pipeline.cmd_iter().for_each(&mut encode);
        });
    });
    group.finish();
}
