# Finds libtorch: the CPU part is linked, the CUDA part is loaded at run time where there is a GPU.
#
# Looks into CMAKE_PREFIX_PATH (an unpacked libtorch, or the torch folder of a Python
# installation) and then into .deps/libtorch, where tools/setup puts the default version.
# The wheel's own TorchConfig.cmake is not used: it asks for a whole CUDA toolkit.
#
# Defines Libtorch::Libtorch, Libtorch_VERSION, Libtorch_LIBRARY_DIR.

set(_libtorch_hints ${CMAKE_PREFIX_PATH} "${CMAKE_SOURCE_DIR}/.deps/libtorch/torch")
find_path(Libtorch_INCLUDE_DIR ATen/ATen.h HINTS ${_libtorch_hints}
          PATH_SUFFIXES include torch/include NO_DEFAULT_PATH)
if(NOT Libtorch_INCLUDE_DIR)
  find_path(Libtorch_INCLUDE_DIR ATen/ATen.h PATH_SUFFIXES include torch/include)
endif()
get_filename_component(_libtorch_root "${Libtorch_INCLUDE_DIR}" DIRECTORY)
find_library(Libtorch_CPU_LIBRARY torch_cpu HINTS "${_libtorch_root}/lib" NO_DEFAULT_PATH)
find_library(Libtorch_C10_LIBRARY c10 HINTS "${_libtorch_root}/lib" NO_DEFAULT_PATH)

# The numbers moved from the C++ API's folder into torch/headeronly.
foreach(_file torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(Libtorch_INCLUDE_DIR AND NOT Libtorch_VERSION AND EXISTS "${Libtorch_INCLUDE_DIR}/${_file}")
    file(STRINGS "${Libtorch_INCLUDE_DIR}/${_file}" _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]")
    string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3" Libtorch_VERSION "${_lines}")
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY Libtorch_INCLUDE_DIR
  VERSION_VAR Libtorch_VERSION
  REASON_FAILURE_MESSAGE "run tools/setup, which puts libtorch under .deps, or give your own by -DCMAKE_PREFIX_PATH=/path/to/libtorch (2.6 or newer)")

if(Libtorch_FOUND AND NOT TARGET Libtorch::Libtorch)
  get_filename_component(Libtorch_LIBRARY_DIR "${Libtorch_CPU_LIBRARY}" DIRECTORY)
  # The wheel leaves libcudart and libcupti, which libtorch_cpu names, to wheels of their own.
  file(GLOB _libtorch_cuda_dirs "${_libtorch_root}/../nvidia/*/lib")
  # The wheel carries the headers of another fmt than the one that we link; ours must be found first.
  get_target_property(_fmt_include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/fmt_first")
  file(CREATE_LINK "${_fmt_include}/fmt" "${CMAKE_BINARY_DIR}/fmt_first/fmt" SYMBOLIC)
  add_library(Libtorch::Libtorch INTERFACE IMPORTED)
  target_include_directories(Libtorch::Libtorch SYSTEM INTERFACE
    "${CMAKE_BINARY_DIR}/fmt_first" "${Libtorch_INCLUDE_DIR}" "${Libtorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(Libtorch::Libtorch INTERFACE "${Libtorch_CPU_LIBRARY}" "${Libtorch_C10_LIBRARY}")
  target_compile_options(Libtorch::Libtorch INTERFACE -fopenmp)
  target_link_options(Libtorch::Libtorch INTERFACE -fopenmp "-Wl,-rpath,${Libtorch_LIBRARY_DIR}" -Wl,--allow-shlib-undefined)
  foreach(_dir ${_libtorch_cuda_dirs})
    get_filename_component(_dir "${_dir}" REALPATH)
    # DT_RPATH, not DT_RUNPATH: the lookup of libtorch's own dependencies must see it.
    target_link_options(Libtorch::Libtorch INTERFACE "-Wl,-rpath,${_dir}" -Wl,--disable-new-dtags)
  endforeach()
endif()
mark_as_advanced(Libtorch_INCLUDE_DIR Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY)
