// The Lua scripts, which are atomic in Redis. Those that hand out events do so only for
// the owner of the partition. They run while Redis' memory is full, too: they add little,
// and what they hand out can be removed then.

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

// script makes a script of files.
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
