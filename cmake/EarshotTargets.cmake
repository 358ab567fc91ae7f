# One static library for each folder of src/, one test program for each folder of tests/.

# earshot_library(NAME [TORCH] [LINK target ...]): every .cc of the folder; public headers are
# included from the root. TORCH: links libtorch and compiles against the shared precompiled header.
function(earshot_library name)
  cmake_parse_arguments(ARG "TORCH" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "*.cc")
  if(NOT sources)
    add_library(earshot_${name} INTERFACE)
    target_link_libraries(earshot_${name} INTERFACE ${ARG_LINK})
    return()
  endif()
  add_library(earshot_${name} STATIC ${sources})
  target_link_libraries(earshot_${name} PUBLIC ${ARG_LINK})
  if(ARG_TORCH)
    earshot_use_torch(earshot_${name})
  endif()
endfunction()

# Everything of torch goes through one precompiled header: torch/torch.h costs 22 s a file without.
function(earshot_use_torch target)
  target_link_libraries(${target} PUBLIC Libtorch::Libtorch)
  # GCC takes a precompiled header only under the very flags it was made with, so programs are compiled
  # with -fPIC as the libraries are, not with -fPIE.
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  target_precompile_headers(${target} REUSE_FROM earshot_torch_pch)
endfunction()

# earshot_test(NAME [TORCH] [LINK target ...]): tests/NAME/*.cc -> NAME_test.
function(earshot_test name)
  cmake_parse_arguments(ARG "TORCH" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc")
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_test ${sources})
  target_link_libraries(${name}_test PRIVATE ${ARG_LINK} GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name}_test PRIVATE EARSHOT_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             EARSHOT_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(ARG_TORCH)
    earshot_use_torch(${name}_test)
  endif()
  gtest_discover_tests(${name}_test DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT 600)
endfunction()

# Under a sanitizer, what is made of Boost.Beast's templates takes GCC minutes a file: so several files at a time, without
# optimisation and without the undefined behaviour checks.
function(earshot_lighten_sanitizer)
  if(EARSHOT_SANITIZE)
    set_target_properties(${ARGN} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 10)
    foreach(target ${ARGN})
      # TSan does not know fences and takes an order that they make for none: Asio's are beside locks, which it knows.
      target_compile_options(${target} PRIVATE -O0 -fno-sanitize=undefined -Wno-tsan)
    endforeach()
  endif()
endfunction()
