# The two commands of the README, and what they stand on. All set-up is in scripts/setup.
.PHONY: build check test demo format clean

build:
	@scripts/build release --target programs

check:
	@scripts/test quick

test:
	@scripts/test

demo: build
	@scripts/demo

format:
	clang-format -i $$(git ls-files 'src/*.cpp' 'src/*.h' 'tests/*.cpp' 'tests/*.h' ':!tests/capi/old_header' 'tests/*.c' 'bench/*.cpp')

clean:
	rm -rf build
