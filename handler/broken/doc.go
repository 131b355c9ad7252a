// Package broken checks the checks: it breaks one promise of the handler at a time, in a copy of one source file that only the build of that test sees, and
// requires that the tests notice. There is nothing here but tests.
package broken
