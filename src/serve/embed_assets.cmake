# Turns a folder of web files into one source with their bytes: cmake -DFOLDER=web -DOUTPUT=out.cc -P embed_assets.cmake
#
# FOLDER/x becomes "/static/x", folders below it too; names that begin with a dot or end in ~ or .md are left out. No
# files: an empty table.
file(GLOB_RECURSE files RELATIVE "${FOLDER}" "${FOLDER}/*")
list(SORT files)

set(mime_html "text/html; charset=utf-8")
set(mime_js "text/javascript; charset=utf-8")
set(mime_css "text/css; charset=utf-8")
set(mime_json "application/json")
set(mime_webmanifest "application/manifest+json")
set(mime_svg "image/svg+xml")
set(mime_png "image/png")
set(mime_ico "image/x-icon")
set(mime_woff2 "font/woff2")
set(mime_wasm "application/wasm")
set(mime_txt "text/plain; charset=utf-8")

set(arrays "")
set(rows "")
set(count 0)
foreach(file ${files})
  if(file MATCHES "(^|/)\\.|~$|\\.md$")
    continue()
  endif()
  file(READ "${FOLDER}/${file}" hex HEX)
  file(SHA256 "${FOLDER}/${file}" digest)
  string(SUBSTRING "${digest}" 0 16 digest)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  set(literal "\"\"")
  foreach(at RANGE 0 ${digits} 56)  # 28 bytes a line
    string(SUBSTRING "${hex}" ${at} 56 line)
    string(REGEX REPLACE "(..)" "\\\\x\\1" line "${line}")
    string(APPEND literal "\n    \"${line}\"")
  endforeach()
  string(REGEX MATCH "[^.]*$" suffix "${file}")
  if(NOT DEFINED mime_${suffix})
    set(mime_${suffix} "application/octet-stream")
  endif()
  string(APPEND arrays "constexpr char kFile${count}[] =\n    ${literal};\n")
  string(APPEND rows "    {\"/static/${file}\", \"${mime_${suffix}}\", {kFile${count}, ${size}}, \"\\\"${digest}\\\"\"},\n")
  math(EXPR count "${count} + 1")
endforeach()

set(table "  return {};\n")
if(count GREATER 0)
  set(table "  static constexpr WebAsset kAssets[] = {\n${rows}  };\n  return kAssets;\n")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT "// Made by src/serve/embed_assets.cmake from src/serve/web.
#include \"src/serve/web_assets.h\"

namespace earshot {
namespace {

${arrays}
}  // namespace

std::span<const WebAsset> WebAssets() {
${table}}

}  // namespace earshot
")
