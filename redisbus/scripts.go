// The Lua scripts, which run atomically in Redis. Those that read events do so only for the
// owner of the partition. The scripts also run while Redis' memory is full: they add little, and
// events must be read before they can be removed.

package redisbus

import (
	"embed"
	"strings"

	"github.com/redis/rueidis"
)

//go:embed scripts/*.lua
var sources embed.FS

var (
	joinScript    = script("join")
	acquireScript = script("acquire")
	renewScript   = script("renew")
	releaseScript = script("release")
	enterScript   = script("enter")
	pendingScript = script("owner", "pending")
	freshScript   = script("owner", "fresh")
	trimScript    = script("trim")
	asideScript   = script("aside")
)

// script returns a script that consists of the named files.
func script(names ...string) *rueidis.Lua {
	var text strings.Builder
	text.WriteString("#!lua flags=allow-oom\n")
	for _, name := range names {
		source, err := sources.ReadFile("scripts/" + name + ".lua")
		if err != nil {
			panic(err) // it is part of the program
		}
		text.Write(source)
	}
	return rueidis.NewLuaScript(text.String())
}

// notOwner begins the error of a script whose caller does not own the partition.
const notOwner = "NOTOWNER"
