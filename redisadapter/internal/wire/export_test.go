// Exports for the external tests.

package wire

// AppendArgs exports appendArgs.
var AppendArgs = appendArgs

// DecodeArgs exports decodeArgs.
var DecodeArgs = decodeArgs

// DecodeArg exports decodeArg.
var DecodeArg = decodeArg
