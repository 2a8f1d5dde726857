package main

import (
	_ "github.com/hashicorp/raft"
	_ "github.com/hashicorp/raft-wal"
	_ "go.etcd.io/etcd/server/v3/storage/wal"
	_ "go.etcd.io/raft/v3"
	_ "github.com/lni/dragonboat/v4"
)

func main() {}
