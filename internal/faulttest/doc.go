// Package faulttest has the tests of a server under clients and services that fail or
// misbehave. They measure the goroutines and the heap of the whole process, so they run
// one after the other, and in a package of their own.
package faulttest
