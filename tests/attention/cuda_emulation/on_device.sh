#!/bin/sh
# Builds the tests of the CUDA kernels for the GPU of this machine and runs them: what the emulation proves, on a device.
#
#   tests/attention/cuda_emulation/on_device.sh [FOLDER [TEST OPTIONS]]     # from the root
set -e
folder=${1:-/tmp/earshot_cuda_on_device}
[ $# -gt 0 ] && shift
architecture=${EARSHOT_CUDA_ARCHITECTURE:-native}
cuda=$(dirname "$(dirname "$(command -v nvcc)")")
mkdir -p "$folder"
for source in src/attention/cuda/*.cu; do
  case $source in
    *_hopper.cu) code="-gencode=arch=compute_90a,code=sm_90a" ;; # instructions of this architecture alone
    *) code="-arch=$architecture" ;;
  esac
  nvcc -std=c++20 -O3 -lineinfo -I. "$code" -c "$source" -o "$folder/$(basename "$source").o"
done
for source in src/attention/cuda/*.cc tests/attention/cuda_emulation/attention_problem.cc \
  tests/attention/cuda_emulation/*_cuda_test.cc src/attention/pattern.cc src/base/error.cc src/base/nearest.cc \
  src/base/random.cc; do
  g++ -std=c++20 -O2 -I. -I"$cuda/include" -DEARSHOT_CUDA_ON_DEVICE -c "$source" -o "$folder/$(basename "$source").o"
done
nvcc -arch="$architecture" -cudart static "$folder"/*.o -lfmt -lgtest -lgtest_main -o "$folder/cuda_on_device_test"
[ -n "$EARSHOT_BUILD_ONLY" ] || "$folder/cuda_on_device_test" "$@"
