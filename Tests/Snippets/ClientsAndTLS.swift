import Sluice

var options: TLSServerOptions { given() }
