// gomemcache: what each call says, line by line, so that two servers can be compared: gomemcache_text HOST:PORT
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/bradfitz/gomemcache/memcache"
)

func tell(what string, got ...interface{}) {
	text := fmt.Sprint(got...)
	if len(text) > 200 {
		text = fmt.Sprintf("%s (%d)", text[:200], len(text))
	}
	fmt.Printf("%s: %s\n", what, text)
}

func main() {
	mc := memcache.New(os.Args[1])
	get := func(what, key string) *memcache.Item {
		item, err := mc.Get(key)
		if err != nil {
			tell(what, err)
			return nil
		}
		tell(what, item.Key, " ", item.Flags, " ", string(item.Value))
		return item
	}
	tell("delete all", mc.DeleteAll())
	get("get of nothing", "missing")
	values := []string{"", "value", "with\r\nlines\r\nEND\r\n", "\x00\xff", strings.Repeat("x", 500000)}
	for number, value := range values {
		key := fmt.Sprintf("key%d", number)
		tell("set", mc.Set(&memcache.Item{Key: key, Value: []byte(value), Flags: uint32(number) << 28}))
		get("get", key)
	}
	tell("add", mc.Add(&memcache.Item{Key: "new", Value: []byte("10")}))
	tell("add again", mc.Add(&memcache.Item{Key: "new", Value: []byte("11")}))
	tell("replace", mc.Replace(&memcache.Item{Key: "new", Value: []byte("12"), Expiration: 100}))
	tell("replace of nothing", mc.Replace(&memcache.Item{Key: "missing", Value: []byte("12")}))
	tell("increment", fmt.Sprintln(mc.Increment("new", 5)))
	tell("decrement", fmt.Sprintln(mc.Decrement("new", 100)))
	tell("increment of nothing", fmt.Sprintln(mc.Increment("missing", 1)))
	tell("increment of text", fmt.Sprintln(mc.Increment("key1", 1)))
	tell("touch", mc.Touch("new", 100))
	tell("touch of nothing", mc.Touch("missing", 100))
	item := get("get for cas", "key1")
	item.Value = []byte("changed")
	tell("cas", mc.CompareAndSwap(item))
	tell("cas with the same", mc.CompareAndSwap(item))
	tell("delete", mc.Delete("key1"))
	tell("cas of nothing", mc.CompareAndSwap(item))
	tell("delete of nothing", mc.Delete("key1"))
	items, err := mc.GetMulti([]string{"key0", "key2", "missing", "key3", "new"})
	var lines []string
	for key, item := range items {
		lines = append(lines, fmt.Sprint(key, " ", item.Flags, " ", string(item.Value)))
	}
	sort.Strings(lines)
	tell("multi", strings.Join(lines, ", "), " ", err)
	tell("too large", mc.Set(&memcache.Item{Key: "key4", Value: make([]byte, 1100000)}))
	get("get of it", "key4")
	tell("a key that is too long", mc.Set(&memcache.Item{Key: strings.Repeat("k", 251)}))
	tell("ended", mc.Set(&memcache.Item{Key: "ended", Value: []byte("x"), Expiration: -1}))
	get("get of it", "ended")
	tell("flush", mc.FlushAll())
	get("get after it", "new")
}
