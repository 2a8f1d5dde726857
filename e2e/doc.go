// Package e2e tests Quorate from outside: its binary, driven by etcd's own
// clients and compared with etcd's own server.
//
// It is a module of its own, so that etcd's server and tools never enter the
// product's go.mod, and it imports nothing of the product: a user has no more
// than the binary either.
//
//	reference   etcd v3.7.3, built from cmd/etcdref
//	subject     quorate, built from ../cmd/quorate, or $QUORATE_BIN
//
// The tests whose names begin with TestReference run without Quorate. They
// prove that the tests themselves are right: what fails against two etcds is
// an error of the test.
//
//	TestReference...    the suite with etcd in Quorate's place
//	TestConformance...  the same requests to both, answers compared field by field
//	TestRandom...       the same random requests to both
//	TestFailover...     processes are killed under load, no acknowledged write is lost
//	TestBusy            what is more than the queues hold is refused, and not done
//	TestSnapshotCatchUp a member is brought up by a snapshot while it is killed
//	TestBackup          save and restore
//	TestEtcdctl...      a session with the command line client
//	TestDev...          quorate dev
//	TestBadInput...     every mistake of an operator gets a clear message
//
// Run it with -count=1: go's cache of test results does not see that the
// binary under test has changed.
//
// Settings, all optional:
//
//	QUORATE_BIN      the quorate binary to test (default: built from ../cmd/quorate)
//	E2E_ETCD_BIN     the reference server (default: built from cmd/etcdref)
//	E2E_ETCDCTL_BIN  the command line client (default: built from etcd's module)
//	E2E_SHORT        any value: fewer random operations, one kill instead of three
//	E2E_SEED         run the random test with this seed only
//	E2E_OPS          operations per seed of the random test
//	E2E_SNAPSHOT_MIB size of the state that a snapshot brings to a member
//	E2E_BACKUP_MIB   size of the state that is saved and restored
//	E2E_PUTS         run the test of what that many puts take on the disk
//	E2E_KEEP         any value: keep the logs of the processes and print where
package e2e
