// Command generate writes the documentation and the clients of the library's own events. A host
// has a program like it for its own.
package main

import (
	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

func main() { realtimegen.Main(realtimegen.Catalog(realtime.Options{})) }
