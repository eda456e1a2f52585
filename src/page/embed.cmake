# cmake -DPAGE=dashboard.html "-DPARTS=page.css|dashboard.js" -DHEADER=admin/dashboard.h
#       -DFUNCTION=kvfold::admin::dashboard_page -DOUTPUT=dashboard.cpp -P embed.cmake
# Puts styles and scripts where the page says {{their name}} and writes the page as string literals that FUNCTION,
# declared in HEADER, returns. Raw literals in pieces, because compilers limit the length of one; ASCII only, so that
# no piece ends inside a character.
file(READ ${PAGE} page)
string(REPLACE "|" ";" PARTS "${PARTS}")
foreach(part ${PARTS})
  cmake_path(GET part FILENAME name)
  file(READ ${part} text)
  string(FIND "${page}" "{{${name}}}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "${PAGE} has no {{${name}}}")
  endif()
  string(REPLACE "{{${name}}}" "${text}" page "${page}")
endforeach()
string(REGEX MATCH "[^\t\n -~]" strange "${page}")
if(NOT strange STREQUAL "")
  message(FATAL_ERROR "${PAGE} and its parts must be ASCII (use \\u escapes); found '${strange}'")
endif()

cmake_path(GET PAGE FILENAME name)
set(source "// Made by embed.cmake from ${name}.\n#include \"${HEADER}\"\n\n")
string(APPEND source "std::string_view ${FUNCTION}() {\n    return \"\"\n")
string(LENGTH "${page}" length)
set(piece_length 4000)
set(begin 0)
while(begin LESS length)
  string(SUBSTRING "${page}" ${begin} ${piece_length} piece)
  string(APPEND source "R\"piece(${piece})piece\"\n")
  math(EXPR begin "${begin} + ${piece_length}")
endwhile()
string(APPEND source "    ;\n}\n")
file(WRITE ${OUTPUT} "${source}")
