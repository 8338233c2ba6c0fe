"""The benchmarks there are, by name."""

from training.benchmarks import diginetica, instacart, online_retail, rees46
from training.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (online_retail.BENCHMARK, diginetica.BENCHMARK, instacart.BENCHMARK, rees46.BENCHMARK)
}
