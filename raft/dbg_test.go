package raft
import ("testing";"fmt";"time";"flag")
var from=flag.Uint64("from",1,""); var to=flag.Uint64("to",1000,""); var without=flag.String("without","","")
func TestDbg(t *testing.T){
 var opts=[]Option{Poison()}
 if *without!="" { o,err:=Without(*without); if err!=nil {t.Fatal(err)}; opts=append(opts,o)}
 for k,h:=range []func(uint64,time.Duration,...Option)*cluster{huntVotes,huntCommits} {
 bad:=0; e,tr,cm:=0,0,0
 for s:=*from;s<=*to;s++ {
 c:=h(s, 3*time.Second, opts...); e+=c.stats.elections; tr+=c.stats.truncations; cm+=c.stats.commits
 if c.violation!="" { bad++; if bad<8 {fmt.Println(k,s,c.violation)} }
 }
 n:=int(*to-*from+1)
 fmt.Println("kind",k,"bad",bad,"elections",e/n,"trunc",float64(tr)/float64(n),"commits",cm/n)
 }
}
