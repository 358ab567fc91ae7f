# The tests that are scripts. Each test_ method of tests/e2e/X_test.py is a test of its own, e2e.X.METHOD.

# earshot_script_test(NAME COMMAND...): runs in the root; the program and the build folder in its environment.
function(earshot_script_test name)
  add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set(environment "EARSHOT_PROGRAM=${CMAKE_BINARY_DIR}/tools/earshot/earshot"
                  "EARSHOT_BUILD_DIR=${CMAKE_BINARY_DIR}" "PYTHONDONTWRITEBYTECODE=1")
  set_tests_properties(${name} PROPERTIES TIMEOUT 600 ENVIRONMENT "${environment}")
endfunction()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
file(GLOB scripts CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/e2e/*_test.py")
foreach(script ${scripts})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${script}")
  get_filename_component(module "${script}" NAME_WE)
  string(REGEX REPLACE "_test$" "" subject "${module}")
  file(STRINGS "${script}" methods REGEX "^  +def test_[a-z0-9_]+\\(self")
  foreach(method ${methods})
    string(REGEX REPLACE "^ +def (test_[a-z0-9_]+).*" "\\1" method "${method}")
    earshot_script_test(e2e.${subject}.${method} "${Python3_EXECUTABLE}" "${script}" -k "*.${method}")
  endforeach()
endforeach()

earshot_script_test(form.includes tools/check_includes)
earshot_script_test(form.check_includes_test "${Python3_EXECUTABLE}" tests/tools/check_includes_test.py)
earshot_script_test(form.tree tools/check_tree)
earshot_script_test(form.format tools/lint --format)
earshot_script_test(form.tidy tools/lint --tidy)
cmake_host_system_information(RESULT processors QUERY NUMBER_OF_LOGICAL_CORES)
set_tests_properties(form.tidy PROPERTIES TIMEOUT 1800 PROCESSORS ${processors})
