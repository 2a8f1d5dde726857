// Command etcdref is etcd's own server, built from its published module. The
// tests of this module compare Quorate's answers with its answers.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
