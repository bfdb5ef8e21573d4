//! Decodes replies: our decoder and redis-rs's parser, each with all bytes at once.

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use ha_redis_core::proto::Decoder;
use redis::Parser;

criterion_group!(benches, decode);
criterion_main!(benches);

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    compare(&mut group, "100 small replies", 100, &b"+OK\r\n:1234\r\n$5\r\nhello\r\n$-1\r\n".repeat(25));
    compare(&mut group, "16 KiB", 1, &bulk(16 << 10));
    compare(&mut group, "array of 100", 1, &[b"*100\r\n".to_vec(), bulk(64).repeat(100)].concat());
    compare(
        &mut group,
        "map of 50",
        1,
        &[b"%50\r\n".to_vec(), [bulk(8), bulk(64)].concat().repeat(50)].concat(),
    );
    group.finish();
}

fn bulk(size: usize) -> Vec<u8> {
    [format!("${size}\r\n").into_bytes(), vec![b'v'; size], b"\r\n".to_vec()].concat()
}

fn compare(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, replies: u64, bytes: &[u8]) {
    group.throughput(Throughput::Elements(replies));
    group.bench_function(format!("{name}/ha-redis"), |bencher| {
        let mut decoder = Decoder::new();
        bencher.iter(|| {
            let mut input = black_box(bytes);
            for _ in 0..replies {
                black_box(decoder.decode(&mut input).expect("RESP").expect("a whole reply"));
            }
        });
    });
    group.bench_function(format!("{name}/redis-rs"), |bencher| {
        let mut parser = Parser::new();
        bencher.iter(|| {
            let mut input = black_box(bytes);
            for _ in 0..replies {
                black_box(parser.parse_value(&mut input).expect("RESP"));
            }
        });
    });
}
