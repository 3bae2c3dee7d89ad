# Files inside the binary, so that it needs none at run time.
#
# veomni_embed_file(TARGET t NAME kName FILE f)
#   adds to target t:   namespace veomni::embedded { extern const std::string_view kName; }
#   with the bytes of f, made anew when f changes. The generated source holds no path.
#
# Run as a script (cmake -DNAME=… -DINPUT=… -DOUTPUT=… -P EmbedFile.cmake) it writes that source.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${INPUT} bytes HEX)
  string(LENGTH "${bytes}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "(..)" "\\\\x\\1" literal "${bytes}")
  # Adjacent literals of 64 bytes: lines that tools can show.
  string(REPEAT "...." 64 line)
  string(REGEX REPLACE "(${line})" "\\1\"\n  \"" literal "${literal}")
  file(WRITE ${OUTPUT} "#include <string_view>

namespace veomni::embedded {
extern const std::string_view ${NAME};
constinit const std::string_view ${NAME}{
  \"${literal}\", ${size}};
}  // namespace veomni::embedded
")
  return()
endif()

set(VEOMNI_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

function(veomni_embed_file)
  cmake_parse_arguments(A "" "TARGET;NAME;FILE" "" ${ARGN})
  cmake_path(ABSOLUTE_PATH A_FILE BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded/${A_NAME}.cpp)
  add_custom_command(OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DNAME=${A_NAME} -DINPUT=${A_FILE} -DOUTPUT=${source} -P ${VEOMNI_EMBED_SCRIPT}
    DEPENDS ${A_FILE} ${VEOMNI_EMBED_SCRIPT} COMMENT "Embedding ${A_NAME}" VERBATIM)
  target_sources(${A_TARGET} PRIVATE ${source})
  set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()
